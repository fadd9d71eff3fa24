// Goto's product: weight^T is packed into panels that stay in the second cache, each thread its own
// part of the vocabulary, inp is read where it lies, a tile of 8 x 48 sums stays in registers.
// Against 02: a value that is loaded serves 8 or 48 multiplications, from a near cache.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void head_forward(float* logits, float* work, const float* inp, const float* weight, int N, int C,
                  int Vp, int threads) {
    Target product = {.at = logits, .row = Vp};
    Matrix x = {inp, C, 1}, w = {weight, 1, C};  // w[c, v] = weight[v, c]
#pragma omp parallel num_threads(threads)
    gemm(&product, x, w, N, Vp, C, threads, work);
}
