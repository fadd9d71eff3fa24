// Sixteen elements at a time, with s = (1 + tanh u) / 2 = 1 / (1 + e), e = exp(-2u):
//   d out / d x = s + x s (1 - s) 2 du/dx,    s (1 - s) = e s^2.
// Against 02: no call to tanhf, and no cancellation in 1 - tanh^2 u.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void gelu_backward(float* dinp, const float* dout, const float* inp, int N, int C, int threads) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    ptrdiff_t size = (ptrdiff_t)N * C;
    #pragma omp parallel for num_threads(threads)
    for (ptrdiff_t i = 0; i < size; i += LANES) {
        lanes x = load(inp + i, size - i);
        lanes y = smaller(every(10.0f), larger(every(-10.0f), x));  // keeps e and e s^2 finite
        lanes e = exp_of(-2.0f * y * (k + k * 0.044715f * (y * y)));
        lanes s = 1.0f / (1.0f + e);
        lanes du = k + 3.0f * k * 0.044715f * (y * y);
        lanes slope = s + x * (e * s * s) * (2.0f * du);
        store(dinp + i, load(dout + i, size - i) * slope, size - i);
    }
}
