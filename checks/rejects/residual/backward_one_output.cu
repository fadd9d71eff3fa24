// A thread an element; the branch's gradient is written in the stream's place, twice.
//
//@ reject poison: dinp2 is never written
//@ block  128
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32 | F=bfloat16 R=bfloat16
#include "common.cuh"

extern "C" __global__ void residual_backward(R* dinp1, F* dinp2, const R* dout, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    dinp1[i] = dout[i];
    if (dinp1[i] != dout[i]) dinp2[i] = from_float<F>(to_float(dout[i]));
}
