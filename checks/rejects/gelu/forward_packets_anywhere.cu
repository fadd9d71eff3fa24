// Packets of 16 bytes at whatever address: nothing says that pointers must be aligned to them.
//
//@ reject launch: 16-byte accesses at addresses that are not multiples of 16
//@ block  256
//@ grid   ceil_div(N * C, (16 / 4) * block)
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = Packet<F>::size * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    size_t size = (size_t)N * C;
    bool whole = i + Packet<F>::size <= size;
    Packet<F> in, result;
    if (whole) in = load_packet(inp + i);
    for (int k = 0; k < Packet<F>::size && i + k < size; k++) {
        float x = to_float(whole ? in.at[k] : inp[i + k]);
        float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
        result.at[k] = from_float<F>(0.5f * x * (1.0f + tanhf(inner)));
        if (!whole) out[i + k] = result.at[k];
    }
    if (whole) store_packet(out + i, result);
}
