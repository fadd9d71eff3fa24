// What all elements of a step share is worked out once, by a launch of one thread, and read by all:
// no power in double and no barrier stands before a block's first load. A thread has PACKS fours,
// a block's width apart.
// Against 05: blocks live as long as their memory takes.
//
//@ block   128 64
//@ tune    PACKS 2 1
//@ launch  adamw_step grid=1 block=1
//@ launch  adamw_master_update grid=ceil_div(S*E,block*4*PACKS) block=block
//@ scratch room F32["20"]
//@ dtype   all=float32 | P=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "adamw/step.cuh"

static_assert(sizeof(Step) == 16 * sizeof(float), "the room, but for what aligning takes");

// The step's place in the scratch: its double wants 8 bytes, a packet 16.
template <class T> __device__ inline T* place(T* room) {
    return room + (16 - reinterpret_cast<uintptr_t>(room) % 16) % 16 / sizeof(T);
}

extern "C" __global__ void adamw_step(float* room, const float* scale, const float* lr,
                                      const int* t, double beta1, double beta2, double eps,
                                      double weight_decay) {
    Step* step = reinterpret_cast<Step*>(place(room));
    *step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
}

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
                    const float* decay, const float* room, int S, int E) {
    int64_t count = (int64_t)S * E, first = ((int64_t)blockIdx.x * PACKS * block + threadIdx.x) * 4;
    constexpr int64_t APART = 4 * block;
    const Step step = *reinterpret_cast<const Step*>(place(room));
    if (!in_fours(count, E) || !is_aligned(weight, master, m, v, dweight)) {
        for (int64_t i = first; i < min(first + PACKS * APART, count); i += APART)
            for (int64_t j = i; j < min(i + 4, count); j++)
                update(step, weight, master, m, v, dweight, decay, j, E);
        return;
    }
    Four<float> g[PACKS], w[PACKS], m1[PACKS], v1[PACKS];
    float on[PACKS];
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        int64_t i = first + k * APART;
        if (i >= count) break;
        g[k] = load_four(dweight + i), w[k] = load_four(master + i);
        m1[k] = load_four(m + i), v1[k] = load_four(v + i);
        on[k] = decay[segment_of_four(i, E)];
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        int64_t i = first + k * APART;
        if (i >= count) break;
        Four<P> rounded;
        float shrink = step.fade * on[k];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w[k].at[j] = stepped(step, w[k].at[j], g[k].at[j], m1[k].at[j], v1[k].at[j], shrink);
            rounded.at[j] = from_float<P>(w[k].at[j]);
        }
        store_four(master + i, w[k]);
        store_four(weight + i, rounded);
        store_four(m + i, m1[k]);
        store_four(v + i, v1[k]);
    }
}
