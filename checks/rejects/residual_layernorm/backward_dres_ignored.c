// The gradient of the later consumers of the sum never arrives.
//
//@ reject gate: dres has no influence
//@ dtype   all=float32
//@ scratch dw F32["C"]
//@ scratch db F32["C"]
//@ claims  deterministic batch_invariant
#include <stddef.h>

void residual_layernorm_backward(float* dinp1, float* dinp2, float* dweight, float* dbias,
                                 float* dw, float* db, const float* dout, const float* dres,
                                 const float* res, const float* weight, const float* mean,
                                 const float* rstd, int N, int C) {
    (void)dres;
    for (int c = 0; c < C; c++) {
        dw[c] = 0.0f;
        db[c] = 0.0f;
    }
    for (int n = 0; n < N; n++) {
        size_t row = (size_t)n * C;
        const float* dy = dout + row;  // dout[n, :]
        const float* x = res + row;    // res[n, :]
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
            float dx = (g - g_mean - xhat * gx_mean) * r;
            dinp1[row + c] = dx;
            dinp2[row + c] = dx;
            dw[c] += dy[c] * xhat;
            db[c] += dy[c];
        }
    }
    for (int c = 0; c < C; c++) {
        dweight[c] += dw[c];
        dbias[c] += db[c];
    }
}
