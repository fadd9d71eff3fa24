// The elements are shared out among threads.
// Against 01: one pragma; tanhf still comes one by one from the C library.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_forward(float* out, const float* inp, int N, int C, int threads) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    #pragma omp parallel for num_threads(threads)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + tanhf(u));
    }
}
