// res is the sum, but what is normalised is inp1 alone in its last channel.
//
//@ reject gate: out lacks inp2 in the last channel
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void residual_layernorm_forward(float* res, float* out, float* mean, float* rstd,
                                const float* inp1, const float* inp2,
                                const float* weight, const float* bias, int N, int C, float eps) {
    for (int n = 0; n < N; n++) {
        size_t row = (size_t)n * C;
        float* x = res + row;  // res[n, :]

        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            x[c] = inp1[row + c] + inp2[row + c];
            sum += x[c];
        }
        float m = sum / C;

        float squares = 0.0f;
        for (int c = 0; c < C; c++) {
            float d = x[c] - m;
            squares += d * d;
        }
        float r = 1.0f / sqrtf(squares / C + eps);

        for (int c = 0; c < C; c++) {
            out[row + c] = ((c < C - 1 ? x[c] : inp1[row + c]) - m) * r * weight[c] + bias[c];
        }
        mean[n] = m;
        rstd[n] = r;
    }
}
