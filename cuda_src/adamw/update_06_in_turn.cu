// A block stores its arrays one after the other, the moments out of shared memory, where
// asynchronous copies have brought them (in_turn.cuh); powers by squaring, in every warp while it
// waits.
// Against 05: longer writes to one place, and no thread that others wait for.
//
//@ block  128 96 64
//@ tune   PACKS 2 3
//@ grid   ceil_div(S * E, block * 4 * PACKS)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "adamw/in_turn.cuh"

// Element i alone.
__device__ inline void update(const Step& step, P* weight, float* m, float* v,
                              const G* dweight, const float* decay, int64_t i, int E) {
    float m1 = m[i], v1 = v[i], shrink = step.fade * decay[i / E];
    weight[i] = from_float<P>(stepped(step, to_float(weight[i]), dweight[i], m1, v1, shrink));
    m[i] = m1;
    v[i] = v1;
}

extern "C" __global__ void __launch_bounds__(block)
adamw_update(P* weight, float* m, float* v, const G* dweight, const float* decay,
             const float* scale, const float* lr, const int* t, int S, int E, double beta1,
             double beta2, double eps, double weight_decay) {
    __shared__ Four<float> g_tile[TILE], m_tile[TILE], v_tile[TILE];
    int64_t count = (int64_t)S * E, first = (int64_t)blockIdx.x * TILE * 4;
    int64_t left = (count - first) / 4;
    bool packed = in_fours(count, E) && is_aligned(weight, m, v, dweight);
    Four<P> w[PACKS];
    float on[PACKS];
    if (packed) {
        ask(g_tile, dweight + first, left), ask(m_tile, m + first, left);
        ask(v_tile, v + first, left);
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            int64_t i = first + four_of(k) * 4;
            if (four_of(k) >= left) break;
            w[k] = load_four(weight + i), on[k] = decay[segment_of_four(i, E)];
        }
    }
    copy_async_commit();
    Step step = step_of_warp(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    if (!packed) {
        for (int64_t i = first + threadIdx.x; i < min(first + TILE * 4, count); i += block)
            update(step, weight, m, v, dweight, decay, i, E);
        return;
    }
    copy_async_wait<0>();
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        int at = four_of(k);
        if (at >= left) break;
        Four<float> g = g_tile[at], m1 = m_tile[at], v1 = v_tile[at];
        float shrink = step.fade * on[k];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float x = to_float(w[k].at[j]);
            w[k].at[j] = from_float<P>(stepped(step, x, g.at[j], m1.at[j], v1.at[j], shrink));
        }
        m_tile[at] = m1, v_tile[at] = v1;
    }
    store_in_turn(m + first, m_tile, left);
    store_in_turn(v + first, v_tile, left);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < PACKS; k++)
        if (four_of(k) < left) store_four(weight + first + four_of(k) * 4, w[k]);
}
