// A row goes sixteen channels at a time: one pass for its two sums, one for dinp and for the run's
// dweight and dbias, which stay in cache because their run of rows is one thread's work.
// Against 02: explicit vectors, and each run clears its own part of the scratch memory.
//
//@ dtype   all=float32
//@ tune    CHUNKS 16 64
//@ scratch dw F32["CHUNKS C"]
//@ scratch db F32["CHUNKS C"]
//@ claims  deterministic batch_invariant
#include "common.h"

void layernorm_backward(float* dinp, float* dweight, float* dbias, float* dw, float* db,
                        const float* dout, const float* inp, const float* weight,
                        const float* mean, const float* rstd, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < CHUNKS; k++) {
        float* dwk = dw + (size_t)k * C;  // dw[k, :]
        float* dbk = db + (size_t)k * C;  // db[k, :]
        memset(dwk, 0, C * sizeof(float));
        memset(dbk, 0, C * sizeof(float));
        int start = (size_t)N * k / CHUNKS, end = (size_t)N * (k + 1) / CHUNKS;
        for (int n = start; n < end; n++) {
            const float* dy = dout + (size_t)n * C;  // dout[n, :]
            const float* x = inp + (size_t)n * C;    // inp[n, :]
            float* dx = dinp + (size_t)n * C;        // dinp[n, :]
            float m = mean[n], r = rstd[n];

            lanes g_sum = {0}, gx_sum = {0};  // beyond C, dy and so g are zero
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
                store(dx + c, load(dx + c, left) + (g - g_mean - xhat * gx_mean) * r, left);
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
