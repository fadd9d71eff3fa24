// The row stays in shared memory: it comes from memory once and goes back once. A thread keeps the
// packets that it loaded, so that nothing but maximum and sum has to wait for the block.
// Against 04: one read instead of two; AHEAD packets of a thread are on their way at a time. Two
// blocks fit a multiprocessor (GPT-2's row is 100 KB in bfloat16): one computes, the other loads.
// Packets beyond the shared memory, half a row in float32, are read again instead.
//
//@ block  512 256
//@ tune   AHEAD 4
//@ grid   N
//@ shared min(ceil_div(Vp, 8) * 16, 102400)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gradient.cuh"

template <bool packed>
__device__ inline void classify(Packet<F>* kept, float* loss, F* logits, int target, float dscale,
                                int V, int Vp) {
    constexpr int size = Packet<F>::size;
    __shared__ float room[32];
    int held = min((Vp + 7) / 8, 6400) * size;  // columns that fit
    float at_target = to_float(logits[target]), largest = -INFINITY, sum = 0.0f;
    for (int start = threadIdx.x * size; start < V; start += AHEAD * block * size) {
        Packet<F> x[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            x[k] = load_columns<packed>(logits, start + k * block * size, V);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int c = start + k * block * size;
            if (c < min(V, held)) kept[c / size] = x[k];
#pragma unroll
            for (int j = 0; j < size; j++) largest = fmaxf(largest, to_float(x[k].at[j]));
        }
    }
    largest = block_max(largest, room);
    for (int c = threadIdx.x * size; c < V; c += block * size) {
        Packet<F> x = c < held ? kept[c / size] : load_columns<packed>(logits, c, V);
#pragma unroll
        for (int j = 0; j < size; j++) sum += exponential<F>(to_float(x.at[j]) - largest);
    }
    sum = block_sum(sum, room);
    Row row = {largest, sum, dscale / sum, dscale, V, Vp};
    if (threadIdx.x == 0) *loss = (largest - at_target) + logf(sum);
    for (int c = threadIdx.x * size; c < Vp; c += block * size) {
        Packet<F> x = c < min(V, held) ? kept[c / size] : load_columns<packed>(logits, c, V);
        to_gradient(x, c, row);
        store_columns<packed>(logits, c, Vp, x);
    }
    if (target / size % block == threadIdx.x) correct_target(logits, target, at_target, row);
}

extern "C" __global__ void __launch_bounds__(block, 2)
classifier_forward(float* losses, F* logits, const int* targets, const float* dscale, int V,
                   int Vp) {
    DYNAMIC_SHARED(Packet<F>, kept);
    F* row = logits + (size_t)blockIdx.x * Vp;
    float* loss = losses + blockIdx.x;
    int target = targets[blockIdx.x];
    if (rows_in_packets(Vp, logits)) classify<true>(kept, loss, row, target, *dscale, V, Vp);
    else classify<false>(kept, loss, row, target, *dscale, V, Vp);
}
