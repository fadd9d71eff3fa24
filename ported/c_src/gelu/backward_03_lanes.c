// Sixteen elements at a time. With e = exp(-2|u|), (1 + tanh u) / 2 is s = 1 / (1 + e), or e s
// where u is negative, and 1 - tanh^2 u is 4 e s^2:
//   d out / d x = (s or e s) + x e s^2 2 du/dx.
// Against 02: no call to tanhf, and no cancellation in 1 + tanh u or 1 - tanh^2 u.
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
        lanes y = larger(-x, x);
        y = smaller(every(20.0f), y);  // x^2 = inf must not meet e = 0
        lanes e = exp_of(-2.0f * y * (k + k * 0.044715f * (y * y)));
        e = choose(e < 0x1p-60f, every(0.0f), e);  // nothing beside 1, and denormals are slow
        lanes s = 1.0f / (1.0f + e);
        lanes du = k + 3.0f * k * 0.044715f * (y * y);
        lanes slope = choose(x < 0.0f, e * s, s) + x * (e * s * s) * (2.0f * du);
        store(dinp + i, load(dout + i, size - i) * slope, size - i);
    }
}
