// Rows are counted in sixteen bits.
//
//@ reject shapes: 65539 rows are three
//@ dtype   all=float32
//@ scratch dw F32["C"]
//@ scratch db F32["C"]
//@ claims  deterministic batch_invariant
#include <stddef.h>

void layernorm_backward(float* dinp, float* dweight, float* dbias, float* dw, float* db,
                        const float* dout, const float* inp, const float* weight,
                        const float* mean, const float* rstd, int N, int C) {
    for (int c = 0; c < C; c++) {
        dw[c] = 0.0f;
        db[c] = 0.0f;
    }
    for (int n = 0; n < (N & 0xffff); n++) {
        const float* dy = dout + (size_t)n * C;  // dout[n, :]
        const float* x = inp + (size_t)n * C;    // inp[n, :]
        float* dx = dinp + (size_t)n * C;        // dinp[n, :], where the residual's gradient stands
        float m = mean[n], r = rstd[n];

        float g_sum = 0.0f, gx_sum = 0.0f;
        for (int c = 0; c < C; c++) {
            float xhat = (x[c] - m) * r;
            float g = dy[c] * weight[c];
            g_sum += g;
            gx_sum += g * xhat;
        }
        float g_mean = g_sum / C, gx_mean = gx_sum / C;

        for (int c = 0; c < C; c++) {
            float xhat = (x[c] - m) * r;
            float g = dy[c] * weight[c];
            dx[c] += (g - g_mean - xhat * gx_mean) * r;
            dw[c] += dy[c] * xhat;
            db[c] += dy[c];
        }
    }
    for (int c = 0; c < C; c++) {
        dweight[c] += dw[c];
        dbias[c] += db[c];
    }
}
