// A block a row: each thread takes its columns together, and halving the threads again and again,
// through shared memory, takes the threads together. Against 01: memory is read in whole lines.
//
//@ block  256 128 512
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

// Maximum or sum over the block, by halves. `room`: a float a thread.
template <bool sum> __device__ inline float over_block(float x, float* room) {
    room[threadIdx.x] = x;
    for (int half = block / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            float a = room[threadIdx.x], b = room[threadIdx.x + half];
            room[threadIdx.x] = sum ? a + b : fmaxf(a, b);
        }
    }
    __syncthreads();
    x = room[0];
    __syncthreads();
    return x;
}

extern "C" __global__ void softmax_forward(F* out, const F* inp, int C) {
    __shared__ float room[block];
    const F* x = inp + (size_t)blockIdx.x * C;
    F* y = out + (size_t)blockIdx.x * C;
    float largest = -INFINITY, sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += block) largest = fmaxf(largest, to_float(x[c]));
    largest = over_block<false>(largest, room);
    for (int c = threadIdx.x; c < C; c += block) sum += expf(to_float(x[c]) - largest);
    sum = over_block<true>(sum, room);
    for (int c = threadIdx.x; c < C; c += block) {
        y[c] = from_float<F>(expf(to_float(x[c]) - largest) / sum);
    }
}
