// The row stays in shared memory: it comes from memory once and goes back once. A thread keeps the
// packets that it loaded, so that nothing but maximum and sum has to wait for the block.
// Against 04: one read instead of two; AHEAD packets of a thread are on their way at a time. Two
// blocks fit a multiprocessor (GPT-2's row is 100 KB in bfloat16): one computes, the other loads.
// Packets beyond the shared memory, half a row in float32, are read again instead.
//
//@ block  512 256
//@ tune   AHEAD 6 4
//@ grid   N
//@ shared min(ceil_div(Vp, 8) * 16, 102400)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gradient.cuh"

constexpr int SIZE = Packet<F>::size;

__device__ inline float largest_of(const Packet<F>& x, float largest) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) largest = fmaxf(largest, to_float(x.at[j]));
    return largest;
}
__device__ inline float sum_of(const Packet<F>& x, float largest, float sum) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) sum += exponential<F>(to_float(x.at[j]) - largest);
    return sum;
}

template <bool packed>
__device__ inline void classify(Packet<F>* kept, float* loss, F* logits, int target, float dscale,
                                int V, int Vp) {
    __shared__ float room[32];
    int held = min(V, min((Vp + 7) / 8, 6400) * SIZE), own = threadIdx.x * SIZE;  // columns kept
    float at_target = to_float(logits[target]), largest = -INFINITY, sum = 0.0f;
    int c = own;
    for (; packed && c - own + AHEAD * block * SIZE <= held; c += AHEAD * block * SIZE) {
        Packet<F> x[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) x[k] = load_packet_once(logits + c + k * block * SIZE);
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            kept[c / SIZE + k * block] = x[k];
            largest = largest_of(x[k], largest);
        }
    }
    for (; c < V; c += block * SIZE) {
        Packet<F> x = load_columns<packed>(logits, c, V);
        if (c < held) kept[c / SIZE] = x;
        largest = largest_of(x, largest);
    }
    largest = block_max(largest, room);
    for (c = own; c < held; c += block * SIZE) sum = sum_of(kept[c / SIZE], largest, sum);
    for (; c < V; c += block * SIZE) {
        sum = sum_of(load_columns<packed>(logits, c, V), largest, sum);
    }
    sum = block_sum(sum, room);
    Row row = {largest, sum, dscale / sum, dscale, V, Vp};
    if (threadIdx.x == 0) *loss = (largest - at_target) + logf(sum);
    for (c = own; c < Vp; c += block * SIZE) {
        Packet<F> x = c < held ? kept[c / SIZE] : load_columns<packed>(logits, c, V);
        to_gradient(x, c, row);
        store_columns<packed>(logits, c, Vp, x);
    }
    if (target / SIZE % block == threadIdx.x) correct_target(logits, target, at_target, row);
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
