// The last vector is read whole, past the end of the buffer; what lies there is thrown away.
//
//@ reject guards: reads past the end without a trace
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void gelu_backward(float* dinp, const float* dout, const float* inp, int N, int C, int threads) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    ptrdiff_t size = (ptrdiff_t)N * C;
    #pragma omp parallel for num_threads(threads)
    for (ptrdiff_t i = 0; i < size; i += LANES) {
        lanes x = load(inp + i, LANES);
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
