// The rows lie in CHUNKS runs of equal length. A run is one thread's work and gathers a dweight and
// a dbias of its own; a second loop, over channels, adds the runs up in order.
// Against 01: parallel, and the order of every sum depends on CHUNKS alone, never on the threads.
//
//@ dtype   all=float32
//@ tune    CHUNKS 16
//@ scratch dw F32["CHUNKS C"] zeroed
//@ scratch db F32["CHUNKS C"] zeroed
//@ claims  deterministic batch_invariant
#include <stddef.h>

void residual_layernorm_backward(float* dinp1, float* dinp2, float* dweight, float* dbias,
                                 float* dw, float* db, const float* dout, const float* dres,
                                 const float* res, const float* weight, const float* mean,
                                 const float* rstd, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < CHUNKS; k++) {
        float* dwk = dw + (size_t)k * C;  // dw[k, :]
        float* dbk = db + (size_t)k * C;  // db[k, :]
        int start = (size_t)N * k / CHUNKS, end = (size_t)N * (k + 1) / CHUNKS;
        for (int n = start; n < end; n++) {
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

            #pragma omp simd
            for (int c = 0; c < C; c++) {
                float xhat = (x[c] - m) * r;
                float g = dy[c] * weight[c];
                float dx = dres[row + c] + (g - g_mean - xhat * gx_mean) * r;
                dinp1[row + c] = dx;
                dinp2[row + c] = dx;
                dwk[c] += dy[c] * xhat;
                dbk[c] += dy[c];
            }
        }
    }
    #pragma omp parallel for num_threads(threads)
    for (int c = 0; c < C; c++) {
        float dw_sum = 0.0f, db_sum = 0.0f;
        for (int k = 0; k < CHUNKS; k++) {
            dw_sum += dw[(size_t)k * C + c];
            db_sum += db[(size_t)k * C + c];
        }
        dweight[c] += dw_sum;
        dbias[c] += db_sum;
    }
}
