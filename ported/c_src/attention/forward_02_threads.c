// Threads share out the heads; dot products, exponentials and sums run 16 floats at a time.
// Against 01: threads and vectors.
//
//@ dtype   all=float32
//@ scratch scores F32["threads T"]
//@ claims  deterministic batch_invariant
#include "common.h"
#include <omp.h>

// p[s] becomes exp(score - max) for s < n, score = p[s]; returns the sum and gives the max.
static float exponentials(float* p, ptrdiff_t n, float* max) {
    lanes largest = every(-INFINITY), sum = {0};
    for (ptrdiff_t s = 0; s < n; s += LANES) {
        largest = larger(keep(load(p + s, n - s), every(-INFINITY), n - s), largest);
    }
    *max = largest_of(largest);  // may step over a NaN: the sum will not
    for (ptrdiff_t s = 0; s < n; s += LANES) {
        lanes e = keep(exp_of(load(p + s, n - s) - *max), (lanes){0}, n - s);
        store(p + s, e, n - s);
        sum += e;
    }
    return sum_of(sum);
}

void attention_forward(float* out, float* lse, float* scores, const float* qkv, int B, int T,
                       int H, int D, int threads) {
    ptrdiff_t C = (ptrdiff_t)H * D;
    float scale = 1.0f / sqrtf(D);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (ptrdiff_t head = 0; head < (ptrdiff_t)B * H; head++) {
        ptrdiff_t b = head / H, h = head % H;
        float* p = scores + (ptrdiff_t)omp_get_thread_num() * T;
        const float* q = qkv + b * T * 3 * C + h * D;
        const float *k = q + C, *v = q + 2 * C;
        for (ptrdiff_t t = 0; t < T; t++) {
            for (ptrdiff_t s = 0; s <= t; s++) {
                lanes dot = {0};
                for (ptrdiff_t d = 0; d < D; d += LANES) {
                    dot += load(q + t * 3 * C + d, D - d) * load(k + s * 3 * C + d, D - d);
                }
                p[s] = sum_of(dot) * scale;
            }
            float max, sum = exponentials(p, t + 1, &max);
            for (ptrdiff_t d = 0; d < D; d += LANES) {
                lanes y = {0};
                for (ptrdiff_t s = 0; s <= t; s++) {
                    y += p[s] * load(v + s * 3 * C + d, D - d);
                }
                store(out + (b * T + t) * C + h * D + d, y / sum, D - d);
            }
            lse[head * T + t] = max + logf(sum);
        }
    }
}
