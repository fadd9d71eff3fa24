// A block goes on to its next row, which is on its way to shared memory, past the registers, while
// this one is computed: two rows side by side, one block a multiprocessor.
// Against 05: a row's loads never wait for the sum of the row before; asynchronous copies.
//
//@ block  1024 512 768
//@ grid   min(N, multiprocessors)
//@ shared ceil_div(Vp, 8) * 32
//@ needs  Vp <= 57344
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gradient.cuh"
#include "ptx.cuh"

constexpr int SIZE = Packet<F>::size;

// A thread's packets of a row on their way into `kept`: what it asks for, it alone will read.
template <bool packed> __device__ inline void ask(Packet<F>* kept, const F* row, int V) {
    for (int c = threadIdx.x * SIZE; c < V; c += block * SIZE) {
        if (packed) copy_async_16(kept + c / SIZE, row + c);
        else kept[c / SIZE] = load_columns<false>(row, c, V);
    }
}

template <bool packed>
__device__ inline void classify(Packet<F>* kept, float* loss, F* logits, int target,
                                float at_target, float dscale, int V, int Vp) {
    __shared__ float room[32];
    int whole = V / SIZE * SIZE, rest = V - whole;  // columns in packets of their own, others
    if (packed && rest && whole / SIZE % block == threadIdx.x) {
        for (int j = rest; j < SIZE; j++) kept[whole / SIZE].at[j] = from_float<F>(-INFINITY);
    }
    float largest = -INFINITY, sum = 0.0f;
    for (int c = threadIdx.x * SIZE; c < V; c += block * SIZE) {
        Packet<F> x = kept[c / SIZE];
#pragma unroll
        for (int j = 0; j < SIZE; j++) largest = fmaxf(largest, to_float(x.at[j]));
    }
    largest = block_max(largest, room);
    for (int c = threadIdx.x * SIZE; c < V; c += block * SIZE) {
        Packet<F> x = kept[c / SIZE];
#pragma unroll
        for (int j = 0; j < SIZE; j++) sum += exponential<F>(to_float(x.at[j]) - largest);
    }
    sum = block_sum(sum, room);
    Row row = {largest, sum, dscale / sum, dscale, V, Vp};
    if (threadIdx.x == 0) *loss = (largest - at_target) + logf(sum);
    for (int c = threadIdx.x * SIZE; c < Vp; c += block * SIZE) {
        Packet<F> x = {};
        if (c < V) x = kept[c / SIZE];
        to_gradient(x, c, row);
        store_columns<packed>(logits, c, Vp, x);
    }
    if (target / SIZE % block == threadIdx.x) correct_target(logits, target, at_target, row);
}

template <bool packed>
__device__ inline void walk(Packet<F>* kept, float* losses, F* logits, const int* targets,
                            float dscale, int N, int V, int Vp) {
    int side = (Vp + SIZE - 1) / SIZE;  // packets of a row
    ask<packed>(kept, logits + (size_t)blockIdx.x * Vp, V);
    copy_async_commit();
    for (int n = blockIdx.x, odd = 0; n < N; n += gridDim.x, odd ^= 1) {
        F* row = logits + (size_t)n * Vp;
        int target = targets[n], next = n + gridDim.x;
        float at_target = to_float(row[target]);
        if (next < N) ask<packed>(kept + (odd ^ 1) * side, logits + (size_t)next * Vp, V);
        copy_async_commit();
        copy_async_wait<1>();  // all but the next row
        classify<packed>(kept + odd * side, losses + n, row, target, at_target, dscale, V, Vp);
    }
}

extern "C" __global__ void __launch_bounds__(block, 1)
classifier_forward(float* losses, F* logits, const int* targets, const float* dscale, int N, int V,
                   int Vp) {
    DYNAMIC_SHARED(Packet<F>, kept);
    if (rows_in_packets(Vp, logits)) walk<true>(kept, losses, logits, targets, *dscale, N, V, Vp);
    else walk<false>(kept, losses, logits, targets, *dscale, N, V, Vp);
}
