// A thread owns a channel of the words' table and walks all tokens in order: no two threads meet in
// an element, and its parts come in one order. A second launch sums the positions, a thread each.
// Against 01: deterministic; but only C threads work on the words.
//
//@ block   32 128
//@ launch  embedding_words grid=ceil_div(C,block) block=block
//@ launch  embedding_positions grid=ceil_div(T*C,block) block=block
//@ dtype   all=float32 | R=bfloat16
//@ claims  deterministic no_atomics
#include "common.cuh"

extern "C" __global__ void embedding_words(G* dwte, const R* dout, const int* tokens, int B, int T,
                                           int C) {
    int c = blockIdx.x * block + threadIdx.x;
    if (c >= C) return;
    for (int64_t row = 0; row < (int64_t)B * T; row++) {
        dwte[(size_t)tokens[row] * C + c] += to_float(dout[row * C + c]);
    }
}

extern "C" __global__ void embedding_positions(G* dwpe, const R* dout, int B, int T, int C) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)T * C) return;
    float sum = 0.0f;
    for (int b = 0; b < B; b++) sum += to_float(dout[(int64_t)b * T * C + i]);
    dwpe[i] += sum;
}
