// A block stores its arrays one after the other, the moments out of shared memory, where
// asynchronous copies have brought them (adamw/in_turn.cuh); powers by squaring, in every warp
// while it waits, and so is the draw, one for a thread's eight neighbours.
// Against 02: longer writes to one place, and no thread that others wait for; as long on an H200.
//
//@ block  128 96 64
//@ tune   PACKS 2
//@ grid   ceil_div(S * E, block * 4 * PACKS)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic no_atomics
#include "adamw/in_turn.cuh"
#include "draw.cuh"

// Eight numbers that lie together.
template <class T> struct alignas(16) Eight {
    T at[8];
};

// Element i alone.
__device__ inline void update(const Step& step, unsigned half, P* weight, float* m, float* v,
                              const G* dweight, float decay, int64_t i) {
    float m1 = m[i], v1 = v[i], shrink = step.fade * decay;
    float x = stepped(step, to_float(weight[i]), dweight[i], m1, v1, shrink);
    weight[i] = round_at_random<P>(x, half);
    m[i] = m1;
    v[i] = v1;
}

extern "C" __global__ void __launch_bounds__(block)
adamw_stochastic_update(P* weight, float* m, float* v, const G* dweight, const float* decay,
                        const float* scale, const float* lr, const int* t, int S, int E,
                        double beta1, double beta2, double eps, double weight_decay, double seed) {
    static_assert(PACKS == 2, "a thread's fours are an eight");
    __shared__ Four<float> g_tile[TILE], m_tile[TILE], v_tile[TILE];
    int64_t count = (int64_t)S * E, first = (int64_t)blockIdx.x * TILE * 4;
    int64_t left = (count - first) / 4, i = first + threadIdx.x * 8;
    bool packed = E % 8 == 0 && in_fours(count, E) && is_aligned(weight, m, v, dweight);
    Eight<P>* mine = reinterpret_cast<Eight<P>*>(weight + i);
    Eight<P> w;
    float on = 0.0f;
    if (packed) {
        ask(g_tile, dweight + first, left), ask(m_tile, m + first, left);
        ask(v_tile, v + first, left);
        if (i < count) w = *mine, on = decay[segment_of_four(i, E)];
    }
    copy_async_commit();
    Step step = step_of_warp(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    Draw draw = draw_eight(i / 8, *t, seed);
    if (!packed) {
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (i + j < count)
                update(step, draw.half(j), weight, m, v, dweight, decay[(i + j) / E], i + j);
        return;
    }
    copy_async_wait<0>();
    __syncthreads();
    if (i < count) {
        float shrink = step.fade * on;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            int at = threadIdx.x * 2 + k;
            Four<float> g = g_tile[at], m1 = m_tile[at], v1 = v_tile[at];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float old = to_float(w.at[4 * k + j]);
                float x = stepped(step, old, g.at[j], m1.at[j], v1.at[j], shrink);
                w.at[4 * k + j] = round_at_random<P>(x, draw.half(4 * k + j));
            }
            m_tile[at] = m1, v_tile[at] = v1;
        }
    }
    store_in_turn(m + first, m_tile, left);
    store_in_turn(v + first, v_tile, left);
    __syncthreads();
    if (i < count) *mine = w;
}
