// A thread an element; the clipping factor is left out.
//
//@ reject gate: scale is ignored
//@ block  128
//@ grid   ceil_div(S * E, block)
//@ dtype  all=float32 | P=bfloat16
#include "common.cuh"

extern "C" __global__ void adamw_update(P* weight, float* m, float* v, const G* dweight,
                                        const float* decay, const float* scale, const float* lr,
                                        const int* t, int S, int E, double beta1, double beta2,
                                        double eps, double weight_decay) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)S * E) return;
    double g = dweight[i], w = to_float(weight[i]);
    double a = beta1 * m[i] + (1 - beta1) * g, b = beta2 * v[i] + (1 - beta2) * g * g;
    double c1 = 1 - pow(beta1, *t), c2 = 1 - pow(beta2, *t);
    w -= *lr * weight_decay * decay[i / E] * w;
    m[i] = a;
    v[i] = b;
    weight[i] = from_float<P>(w - *lr * (a / c1) / (sqrt(b / c2) + eps));
}
