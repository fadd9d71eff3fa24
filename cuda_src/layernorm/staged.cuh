// Rows on their way to shared memory while others are worked on. A thread has slots of its own there
// and asks for its packets of a row itself, so that nothing has to meet at a barrier: it waits for
// its own copies only. STAGES rows of bfloat16, half as many of float32, are asked for ahead.
#pragma once
#include "ptx.cuh"
#include "row.cuh"

constexpr int DEPTH = STAGES * 2 / sizeof(R) > 1 ? STAGES * 2 / sizeof(R) : 1;

// The thread's slot for packet v of tensor `which` (0, 1, 2) of the row that stands in `stage`.
template <class T> __device__ inline T* slot(unsigned char* stages, int stage, int which, int v) {
    return reinterpret_cast<T*>(stages + (((stage * 3 + which) * PACKETS + v) * block + threadIdx.x) * 16);
}

// Asks for the thread's packets of row n of three tensors; zeros where there is none.
template <class A, class B, class D>
__device__ inline void ask(unsigned char* stages, int stage, const A* a, const B* b, const D* d,
                           int64_t n, int N) {
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        bool there = n < N && inside<true>(channel(v), 0);
        size_t at = there ? n * C + channel(v) : 0;
        copy_async_16(slot<A>(stages, stage, 0, v), a + at, there);
        copy_async_16(slot<B>(stages, stage, 1, v), b + at, there);
        copy_async_16(slot<D>(stages, stage, 2, v), d + at, there);
    }
    copy_async_commit();
}

template <class T>
__device__ inline void take_stage(Words<T> (&held)[PACKETS], unsigned char* stages, int stage,
                                  int which) {
#pragma unroll
    for (int v = 0; v < PACKETS; v++) held[v] = load_words(slot<T>(stages, stage, which, v));
}
