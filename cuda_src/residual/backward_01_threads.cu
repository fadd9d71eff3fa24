// A thread an element: the gradient copied to both.
//
//@ block   256 128
//@ grid    ceil_div(N * C, block)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16
//@ inplace dinp1=dout
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void residual_backward(R* dinp1, F* dinp2, const R* dout, int N, int C) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float d = to_float(dout[i]);
    dinp1[i] = from_float<R>(d);
    dinp2[i] = from_float<F>(d);
}
