// A thread an element: the C loop, its body on the GPU.
//
//@ block   256 128
//@ grid    ceil_div(N * C, block)
//@ dtype   all=float32 | F=bfloat16
//@ inplace dinp=dout
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void gelu_backward(F* dinp, const F* dout, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    const float k = 0.7978845608028654f;  // sqrt(2 / pi)
    float x = to_float(inp[i]);
    float y = fminf(fmaxf(x, -20.0f), 20.0f);  // x^2 = inf must not meet 1 - t^2 = 0
    float t = tanhf(k * (y + 0.044715f * y * y * y));
    float du = k * (1.0f + 3.0f * 0.044715f * y * y);
    float slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
    dinp[i] = from_float<F>(to_float(dout[i]) * slope);
}
