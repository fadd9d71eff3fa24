// A thread an output; in a float32 version the factors are rounded to bfloat16 before they are
// multiplied.
//
//@ reject gate: factors rounded to bfloat16 in float32
//@ block  64
//@ grid   ceil_div(N * O, block)
//@ dtype  all=float32
//@ claims float32
#include "common.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * O) return;
    size_t n = i / O, o = i % O;
    float sum = 0.0f;
    for (int c = 0; c < C; c++)
        sum += __bfloat162float(__float2bfloat16_rn(inp[n * C + c])) *
               __bfloat162float(__float2bfloat16_rn(weight[o * C + c]));
    out[i] = sum + bias[o];
}
