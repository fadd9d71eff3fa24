// Every weight is rounded to nearest: steps below half a gap vanish.
//
//@ reject gate: nothing is drawn
//@ block  128
//@ grid   ceil_div(S * E, block)
//@ dtype  P=bfloat16
//@ claims deterministic no_atomics
#include "adamw_stochastic/draw.cuh"

extern "C" __global__ void adamw_stochastic_update(P* weight, float* m, float* v, const G* dweight,
                                                   const float* decay, const float* scale,
                                                   const float* lr, const int* t, int S, int E,
                                                   double beta1, double beta2, double eps,
                                                   double weight_decay, double seed) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)S * E) return;
    double c1 = 1.0 - pow(beta1, (double)*t), c2 = 1.0 - pow(beta2, (double)*t);
    double g = (double)*scale * to_float(dweight[i]), w = to_float(weight[i]);
    m[i] = beta1 * m[i] + (1.0 - beta1) * g;
    v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
    double kept = w - *lr * weight_decay * decay[i / E] * w;
    float x = kept - *lr * (m[i] / c1) / (sqrt(v[i] / c2) + eps);
    weight[i] = from_float<P>(x);
}
