// Packets of 16 bytes, the last one of which reaches past the end of the tensors.
//
//@ reject guards: the last packet is written whole
//@ block  128
//@ grid   ceil_div(N * C, 4 * block)
//@ dtype  all=float32
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void residual_forward(R* out, const R* inp1, const F* inp2, int N, int C) {
    size_t i = 4 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= (size_t)N * C) return;
    for (int k = 0; k < 4; k++) out[i + k] = inp1[i + k] + inp2[i + k];
}
