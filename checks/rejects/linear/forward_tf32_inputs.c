// The factors keep ten bits of mantissa, as in TF32, under a claim of float32.
//
//@ reject gate: multiplies with ten bits
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>
#include <string.h>

static float as_tf32(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

void linear_forward(float* out, const float* inp, const float* weight, const float* bias,
                    int N, int C, int O) {
    for (int n = 0; n < N; n++) {
        for (int o = 0; o < O; o++) {
            const float* x = inp + (size_t)n * C;     // inp[n, :]
            const float* w = weight + (size_t)o * C;  // weight[o, :]
            float sum = 0.0f;
            for (int c = 0; c < C; c++) {
                sum += as_tf32(x[c]) * as_tf32(w[c]);
            }
            out[(size_t)n * O + o] = sum + bias[o];
        }
    }
}
