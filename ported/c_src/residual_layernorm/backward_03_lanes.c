// A row goes sixteen channels at a time: one pass for its two sums, one for the gradient and the
// run's dweight and dbias, which stay in cache because their run of rows is one thread's work.
// Against 02: explicit vectors, and each run clears its own part of the scratch memory.
//
//@ dtype   all=float32
//@ tune    CHUNKS 16 64
//@ scratch dw F32["CHUNKS C"]
//@ scratch db F32["CHUNKS C"]
//@ claims  deterministic batch_invariant
#include "common.h"

void residual_layernorm_backward(float* dinp1, float* dinp2, float* dweight, float* dbias,
                                 float* dw, float* db, const float* dout, const float* dres,
                                 const float* res, const float* weight, const float* mean,
                                 const float* rstd, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < CHUNKS; k++) {
        float* dwk = dw + (size_t)k * C;  // dw[k, :]
        float* dbk = db + (size_t)k * C;  // db[k, :]
        memset(dwk, 0, C * sizeof(float));
        memset(dbk, 0, C * sizeof(float));
        int start = (size_t)N * k / CHUNKS, end = (size_t)N * (k + 1) / CHUNKS;
        for (int n = start; n < end; n++) {
            size_t row = (size_t)n * C;
            const float* dy = dout + row;  // dout[n, :]
            const float* x = res + row;    // res[n, :]
            float m = mean[n], r = rstd[n];

            lanes g_sum = {0}, gx_sum = {0};
            for (int c = 0; c < C; c += LANES) {
                lanes xhat = keep((load(x + c, C - c) - m) * r, every(0.0f), C - c);
                lanes g = load(dy + c, C - c) * load(weight + c, C - c);
                g_sum += g;
                gx_sum += g * xhat;
            }
            float g_mean = sum_of(g_sum) / C, gx_mean = sum_of(gx_sum) / C;

            for (int c = 0; c < C; c += LANES) {
                int left = C - c;
                lanes d = load(dy + c, left);
                lanes xhat = (load(x + c, left) - m) * r;
                lanes g = d * load(weight + c, left);
                lanes dx = load(dres + row + c, left) + (g - g_mean - xhat * gx_mean) * r;
                store(dinp1 + row + c, dx, left);
                store(dinp2 + row + c, dx, left);
                store(dwk + c, load(dwk + c, left) + d * xhat, left);
                store(dbk + c, load(dbk + c, left) + d, left);
            }
        }
    }
    #pragma omp parallel for num_threads(threads)
    for (int c = 0; c < C; c += LANES) {
        lanes dw_sum = {0}, db_sum = {0};
        for (int k = 0; k < CHUNKS; k++) {
            dw_sum += load(dw + (size_t)k * C + c, C - c);
            db_sum += load(db + (size_t)k * C + c, C - c);
        }
        store(dweight + c, load(dweight + c, C - c) + dw_sum, C - c);
        store(dbias + c, load(dbias + c, C - c) + db_sum, C - c);
    }
}
