// A run of rows for each thread: other numbers of threads, other runs, other roundings.
//
//@ reject claims: the order of the sums depends on the number of threads
//@ dtype   all=float32
//@ scratch dw F32["threads C"] zeroed
//@ scratch db F32["threads C"] zeroed
//@ claims  deterministic batch_invariant
#include <stddef.h>

void layernorm_backward(float* dinp, float* dweight, float* dbias, float* dw, float* db,
                        const float* dout, const float* inp, const float* weight,
                        const float* mean, const float* rstd, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < threads; k++) {
        float* dwk = dw + (size_t)k * C;  // dw[k, :]
        float* dbk = db + (size_t)k * C;  // db[k, :]
        int start = (size_t)N * k / threads, end = (size_t)N * (k + 1) / threads;
        for (int n = start; n < end; n++) {
            const float* dy = dout + (size_t)n * C;  // dout[n, :]
            const float* x = inp + (size_t)n * C;    // inp[n, :]
            float* dx = dinp + (size_t)n * C;        // dinp[n, :]
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
                dx[c] += (g - g_mean - xhat * gx_mean) * r;
                dwk[c] += dy[c] * xhat;
                dbk[c] += dy[c];
            }
        }
    }
    #pragma omp parallel for num_threads(threads)
    for (int c = 0; c < C; c++) {
        float dw_sum = 0.0f, db_sum = 0.0f;
        for (int k = 0; k < threads; k++) {
            dw_sum += dw[(size_t)k * C + c];
            db_sum += db[(size_t)k * C + c];
        }
        dweight[c] += dw_sum;
        dbias[c] += db_sum;
    }
}
