// A thread an element; the position is the row's number in the batch, not in its sequence.
//
//@ reject sanitizers: reads positions past the end of wpe
//@ block  64
//@ grid   ceil_div(B * T * C, block)
//@ dtype  all=float32 | R=bfloat16 P=bfloat16
#include "common.cuh"

extern "C" __global__ void embedding_forward(R* out, const int* tokens, const P* wte, const P* wpe,
                                             int B, int T, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)B * T * C) return;
    size_t row = i / C, c = i % C;
    out[i] = from_float<R>(to_float(wte[tokens[row] * (size_t)C + c]) + to_float(wpe[row * C + c]));
}
