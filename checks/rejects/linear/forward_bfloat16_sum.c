// The running sum is rounded to bfloat16 after each term, under a claim of float32.
//
//@ reject gate: accumulates in bfloat16
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>
#include <string.h>

static float as_bfloat16(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
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
                sum = as_bfloat16(sum + x[c] * w[c]);
            }
            out[(size_t)n * O + o] = sum + bias[o];
        }
    }
}
