// Each constant is a pair of floats whose sum is the double: all arithmetic is float's, the small
// half joins the small term first, and no rounding is shared by all elements.
// Against 02: no conversions to double and back, twice the lanes; memory sets the pace.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

typedef struct {
    float hi, lo;
} pair;

static pair split(double x) { return (pair){x, x - (float)x}; }

// A small half times infinity may have the wrong sign: the large half speaks for both.
static inline float steady(float x) { return fabsf(x) < INFINITY ? x : 0.0f; }

void adamw_update(float* weight, float* m, float* v, const float* dweight, const float* decay,
                  const float* scale, const float* lr, const int* t, int S, int E,
                  double beta1, double beta2, double eps, double weight_decay, int threads) {
    pair b1 = split(beta1), rest1 = split(1.0 - beta1);
    pair b2 = split(beta2), rest2 = split(1.0 - beta2);
    pair step = split(*lr / (1.0 - pow(beta1, *t)));
    pair root = split(1.0 / sqrt(1.0 - pow(beta2, *t)));
    float small = eps, clip = *scale;
    #pragma omp parallel for num_threads(threads)
    for (int s = 0; s < S; s++) {
        float shrink = *lr * weight_decay * decay[s];  // 0 where decay[s] is 0
        size_t start = (size_t)s * E;
        #pragma omp simd
        for (size_t i = start; i < start + E; i++) {
            float g = clip * dweight[i], w = weight[i];
            float share = rest2.hi * g + steady(rest2.lo * g);
            float m1 = b1.hi * m[i] + (rest1.hi * g + steady(rest1.lo * g + b1.lo * m[i]));
            float v1 = b2.hi * v[i] + (share * g + steady(b2.lo * v[i]));
            float size = sqrtf(v1) * root.hi + (steady(sqrtf(v1) * root.lo) + small);
            float ratio = m1 / size;
            m[i] = m1;
            v[i] = v1;
            weight[i] = (w - shrink * w) - steady(step.lo * ratio) - step.hi * ratio;
        }
    }
}
