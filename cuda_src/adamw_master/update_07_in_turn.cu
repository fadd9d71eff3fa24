// A block stores its arrays one after the other, out of shared memory, where asynchronous copies
// have brought them (adamw/in_turn.cuh); powers by squaring, in every warp while it waits.
// Against 06: longer writes to one place, and one launch.
//
//@ block  128 96 64
//@ tune   PACKS 2 3
//@ grid   ceil_div(S * E, block * 4 * PACKS)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "adamw/in_turn.cuh"

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
    __shared__ Four<float> g_tile[TILE], w_tile[TILE], m_tile[TILE], v_tile[TILE];
    int64_t count = (int64_t)S * E, first = (int64_t)blockIdx.x * TILE * 4;
    int64_t left = (count - first) / 4;
    bool packed = in_fours(count, E) && is_aligned(weight, master, m, v, dweight);
    float on[PACKS];
    if (packed) {
        ask(g_tile, dweight + first, left), ask(w_tile, master + first, left);
        ask(m_tile, m + first, left), ask(v_tile, v + first, left);
#pragma unroll
        for (int k = 0; k < PACKS; k++)
            if (four_of(k) < left) on[k] = decay[segment_of_four(first + four_of(k) * 4, E)];
    }
    copy_async_commit();
    Step step = step_of_warp(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    if (!packed) {
        for (int64_t i = first + threadIdx.x; i < min(first + TILE * 4, count); i += block)
            update(step, weight, master, m, v, dweight, decay, i, E);
        return;
    }
    copy_async_wait<0>();
    Four<P> rounded[PACKS];
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        int at = four_of(k);
        if (at >= left) break;
        Four<float> g = g_tile[at], w = w_tile[at], m1 = m_tile[at], v1 = v_tile[at];
        float shrink = step.fade * on[k];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w.at[j] = stepped(step, w.at[j], g.at[j], m1.at[j], v1.at[j], shrink);
            rounded[k].at[j] = from_float<P>(w.at[j]);
        }
        w_tile[at] = w, m_tile[at] = m1, v_tile[at] = v1;
    }
    store_in_turn(m + first, m_tile, left);
    store_in_turn(v + first, v_tile, left);
    store_in_turn(master + first, w_tile, left);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < PACKS; k++)
        if (four_of(k) < left) store_four(weight + first + four_of(k) * 4, rounded[k]);
}
