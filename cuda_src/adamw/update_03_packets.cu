// A thread four neighbours: each array is read and written 16 bytes at a time.
// Against 02: a quarter of the instructions that move data, one look at decay for four elements.
//
//@ block  256 128 512
//@ grid   ceil_div(S * E, block * 4)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "step.cuh"

// Elements i to i + 3, which are of one segment.
__device__ inline void update_four(const Step& step, P* weight, float* m, float* v,
                                   const G* dweight, const float* decay, int64_t i, int E) {
    Four<float> g = load_four(dweight + i), m1 = load_four(m + i), v1 = load_four(v + i);
    Four<P> w = load_four(weight + i);
    float shrink = step.fade * decay[segment_of_four(i, E)];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float x = stepped(step, to_float(w.at[j]), g.at[j], m1.at[j], v1.at[j], shrink);
        w.at[j] = from_float<P>(x);
    }
    store_four(weight + i, w);
    store_four(m + i, m1);
    store_four(v + i, v1);
}

// Element i alone.
__device__ inline void update(const Step& step, P* weight, float* m, float* v,
                              const G* dweight, const float* decay, int64_t i, int E) {
    float m1 = m[i], v1 = v[i], shrink = step.fade * decay[i / E];
    weight[i] = from_float<P>(stepped(step, to_float(weight[i]), dweight[i], m1, v1, shrink));
    m[i] = m1;
    v[i] = v1;
}

extern "C" __global__ void adamw_update(P* weight, float* m, float* v, const G* dweight,
                                        const float* decay, const float* scale, const float* lr,
                                        const int* t, int S, int E, double beta1, double beta2,
                                        double eps, double weight_decay) {
    __shared__ Step step;
    if (threadIdx.x == 0) step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    __syncthreads();
    int64_t count = (int64_t)S * E, i = ((int64_t)blockIdx.x * block + threadIdx.x) * 4;
    if (i >= count) return;
    if (in_fours(count, E) && is_aligned(weight, m, v, dweight)) {
        update_four(step, weight, m, v, dweight, decay, i, E);
    } else {
        for (int64_t end = min(i + 4, count); i < end; i++) {
            update(step, weight, m, v, dweight, decay, i, E);
        }
    }
}
