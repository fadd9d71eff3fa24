// Rows on their way to shared memory while others are worked on. A thread has slots of its own
// there and asks for its packets of a row itself, so that no barrier is needed: it waits
// for its own copies only. STAGES rows of bfloat16, half as many of float32, are asked for ahead:
// 3 tensors of at most 24 numbers a lane, 144 bytes a thread and stage of bfloat16.
#pragma once
#include "ptx.cuh"
#include "row.cuh"

constexpr int DEPTH = STAGES * 2 / sizeof(R) > 1 ? STAGES * 2 / sizeof(R) : 1;

// The thread's slot for packet v of tensor `which` (0, 1, 2) of the row that stands in `stage`.
template <class T> __device__ inline T* slot(unsigned char* stages, int stage, int which, int v) {
    int number = (stage * 3 + which) * PACKETS + v;
    return reinterpret_cast<T*>(stages + (number * block + threadIdx.x) * 16);
}

// Asks for the thread's packets of row n of three tensors; zeros where there is none. Where packets
// are forbidden the numbers are put there at once, one by one.
template <class A, class B, class D>
__device__ inline void ask(unsigned char* stages, int stage, const A* a, const B* b, const D* d,
                           int64_t n, int N, bool packed) {
    size_t row = n < N ? n * C : 0;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        int c = channel(v);
        if (WHOLE && packed) {
            bool there = n < N && inside(c, 0);
            size_t at = there ? row + c : 0;
            copy_async_16(slot<A>(stages, stage, 0, v), a + at, there);
            copy_async_16(slot<B>(stages, stage, 1, v), b + at, there);
            copy_async_16(slot<D>(stages, stage, 2, v), d + at, there);
        } else if (n < N) {
            store_words(slot<A>(stages, stage, 0, v), take(a + row, c, false));
            store_words(slot<B>(stages, stage, 1, v), take(b + row, c, false));
            store_words(slot<D>(stages, stage, 2, v), take(d + row, c, false));
        } else {
            for (int which = 0; which < 3; which++)
                store_words(slot<A>(stages, stage, which, v), Words<A>{});
        }
    }
    copy_async_commit();
}

template <class T>
__device__ inline void take_stage(Words<T> (&held)[PACKETS], unsigned char* stages, int stage,
                                  int which) {
#pragma unroll
    for (int v = 0; v < PACKETS; v++) held[v] = load_words(slot<T>(stages, stage, which, v));
}
