// A thread an element of dout, with atomic additions of floats in whatever order they come.
//
//@ reject artifact: atomic additions under a claim that there are none
//@ block  64
//@ grid   ceil_div(B * T * C, block)
//@ dtype  all=float32 | R=bfloat16
//@ claims no_atomics
#include "common.cuh"

extern "C" __global__ void embedding_backward(G* dwte, G* dwpe, const R* dout, const int* tokens,
                                              int B, int T, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)B * T * C) return;
    size_t row = i / C, c = i % C;
    atomicAdd(&dwte[tokens[row] * (size_t)C + c], to_float(dout[i]));
    atomicAdd(&dwpe[(row % T) * C + c], to_float(dout[i]));
}
