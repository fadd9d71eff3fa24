// A thread a token: it walks the token's channels. Neighbouring threads are a whole row apart.
//
//@ block  128 64
//@ grid   ceil_div(B * T, block)
//@ dtype  all=float32 | P=bfloat16 R=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void embedding_forward(R* out, const int* tokens, const P* wte, const P* wpe,
                                             int B, int T, int C) {
    int64_t row = (int64_t)blockIdx.x * block + threadIdx.x;
    if (row >= (int64_t)B * T) return;
    const P *word = wte + (size_t)tokens[row] * C, *place = wpe + row % T * C;
    for (int c = 0; c < C; c++) {
        out[row * C + c] = from_float<R>(to_float(word[c]) + to_float(place[c]));
    }
}
