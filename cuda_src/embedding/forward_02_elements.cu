// A thread an element: neighbouring threads stand at neighbouring channels.
// Against 01: memory is read and written in whole lines; a thread finds its token by a division.
//
//@ block  256 128
//@ grid   ceil_div(B * T * C, block)
//@ dtype  all=float32 | P=bfloat16 R=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void embedding_forward(R* out, const int* tokens, const P* wte, const P* wpe,
                                             int B, int T, int C) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)B * T * C) return;
    int64_t row = i / C;
    int c = i - row * C;
    float word = to_float(wte[(size_t)tokens[row] * C + c]);
    float place = to_float(wpe[row % T * C + c]);
    out[i] = from_float<R>(word + place);
}
