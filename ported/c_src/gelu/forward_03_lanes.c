// Sixteen elements at a time, with (1 + tanh u) / 2 = 1 / (1 + exp(-2u)): an exponential and a
// division.
// Against 02: no call to tanhf, and no cancellation in 1 + tanh u where u is negative.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void gelu_forward(float* out, const float* inp, int N, int C, int threads) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    ptrdiff_t size = (ptrdiff_t)N * C;
    #pragma omp parallel for num_threads(threads)
    for (ptrdiff_t i = 0; i < size; i += LANES) {
        lanes x = load(inp + i, size - i);
        lanes u = x * (k + k * 0.044715f * (x * x));
        store(out + i, x / (1.0f + exp_of(-2.0f * u)), size - i);
    }
}
