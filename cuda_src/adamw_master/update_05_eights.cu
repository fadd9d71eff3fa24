// A thread eight neighbours, so that weights are written 16 bytes at a time as well; and it asks
// for all its numbers before the block's powers are worked out, which takes as long as they are on
// their way.
// Against 04: no walk; a thread has one load of everything, and a block begins with it.
//
//@ block  128 256
//@ tune   HINT 0 1 2
//@ grid   ceil_div(S * E, block * 8)
//@ dtype  all=float32 | P=bfloat16
//@ spills 2
//@ claims deterministic batch_invariant no_atomics
#include "adamw/eights.cuh"

// Element i alone.
__device__ inline void update(const Step& step, P* weight, float* master, float* m, float* v,
                              const G* dweight, const float* decay, int64_t i, int E) {
    float m1 = m[i], v1 = v[i], shrink = step.fade * decay[i / E];
    master[i] = stepped(step, master[i], dweight[i], m1, v1, shrink);
    weight[i] = from_float<P>(master[i]);
    m[i] = m1;
    v[i] = v1;
}

extern "C" __global__ void __launch_bounds__(block)
adamw_master_update(P* weight, float* master, float* m, float* v, const G* dweight,
                    const float* decay, const float* scale, const float* lr, const int* t, int S,
                    int E, double beta1, double beta2, double eps, double weight_decay) {
    __shared__ Step step;
    int64_t count = (int64_t)S * E, eight = (int64_t)blockIdx.x * block + threadIdx.x;
    int64_t i = eight * 8;
    bool packed = in_eights(count, E) && is_aligned(weight, master, m, v, dweight) && i < count;
    Eights<float> g, w, m1, v1;
    float on = 0.0f;
    if (packed) {
        g = load_eights(dweight + i);
        w = load_eights(master + i);
        m1 = load_eights(m + i);
        v1 = load_eights(v + i);
        on = decay[(unsigned)eight / (unsigned)(E / 8)];
    }
    if (threadIdx.x == 0) step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    __syncthreads();
    if (packed) {
        float shrink = step.fade * on, x[8], first[8], second[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            first[j] = number(m1, j), second[j] = number(v1, j);
            x[j] = stepped(step, number(w, j), number(g, j), first[j], second[j], shrink);
        }
        store_eights(master + i, x);
        store_eights(weight + i, x);
        store_eights(m + i, first);
        store_eights(v + i, second);
    } else {
        for (int64_t end = min(i + 8, count); i < end; i++)
            update(step, weight, master, m, v, dweight, decay, i, E);
    }
}
