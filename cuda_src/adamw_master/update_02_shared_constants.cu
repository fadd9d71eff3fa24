// What all elements share, the two powers first of all, is worked out by one thread a block.
// Against 01: float arithmetic, in which constants are pairs of floats (adamw/step.cuh); no double
// is left in a thread's own work.
//
//@ block  256 128
//@ grid   ceil_div(S * E, block)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "adamw/step.cuh"

extern "C" __global__ void adamw_master_update(P* weight, float* master, float* m, float* v,
                                               const G* dweight, const float* decay,
                                               const float* scale, const float* lr, const int* t,
                                               int S, int E, double beta1, double beta2,
                                               double eps, double weight_decay) {
    __shared__ Step step;
    if (threadIdx.x == 0) step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    __syncthreads();
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)S * E) return;
    float shrink = step.fade * decay[i / E], m1 = m[i], v1 = v[i];
    float w = stepped(step, master[i], to_float(dweight[i]), m1, v1, shrink);
    master[i] = w;
    weight[i] = from_float<P>(w);
    m[i] = m1;
    v[i] = v1;
}
