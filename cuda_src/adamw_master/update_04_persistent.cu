// As many blocks as the GPU holds at once walk the whole region in tiles; a thread asks for FOURS
// packets of every array before it uses the first.
// Against 03: the powers are taken some hundred times instead of a hundred thousand, and more bytes
// are on their way at a time.
//
//@ block  256 128
//@ tune   FOURS 2 1
//@ grid   min(ceil_div(S * E, block * 4 * FOURS), multiprocessors * ((1280 - 256 * FOURS) / block))
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "adamw/step.cuh"

constexpr int AT_ONCE = (1280 - 256 * FOURS) / block;  // blocks that a multiprocessor holds
constexpr int TILE = block * 4 * FOURS;                // elements

// FOURS packets from element i on, block packets apart. Each is of one segment.
__device__ inline void update_fours(const Step& step, P* weight, float* master, float* m, float* v,
                                    const G* dweight, const float* decay, int64_t i, int64_t count,
                                    int E) {
    Four<float> g[FOURS], m1[FOURS], v1[FOURS], w[FOURS];
    float on[FOURS];
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int64_t at = i + k * block * 4;
        if (at >= count) break;
        g[k] = load_four(dweight + at);
        w[k] = load_four(master + at);
        m1[k] = load_four(m + at);
        v1[k] = load_four(v + at);
        on[k] = decay[segment_of_four(at, E)];
    }
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
        int64_t at = i + k * block * 4;
        if (at >= count) break;
        Four<P> rounded;
        float shrink = step.fade * on[k];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w[k].at[j] = stepped(step, w[k].at[j], g[k].at[j], m1[k].at[j], v1[k].at[j], shrink);
            rounded.at[j] = from_float<P>(w[k].at[j]);
        }
        store_four(master + at, w[k]);
        store_four(weight + at, rounded);
        store_four(m + at, m1[k]);
        store_four(v + at, v1[k]);
    }
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

extern "C" __global__ void __launch_bounds__(block, AT_ONCE)
adamw_master_update(P* weight, float* master, float* m, float* v, const G* dweight,
                    const float* decay, const float* scale, const float* lr, const int* t, int S,
                    int E, double beta1, double beta2, double eps, double weight_decay) {
    __shared__ Step step;
    if (threadIdx.x == 0) step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    __syncthreads();
    int64_t count = (int64_t)S * E, stride = (int64_t)gridDim.x * TILE;
    bool packed = in_fours(count, E) && is_aligned(weight, master, m, v, dweight);
    for (int64_t first = (int64_t)blockIdx.x * TILE; first < count; first += stride) {
        if (packed) {
            int64_t i = first + threadIdx.x * 4;
            if (i < count) update_fours(step, weight, master, m, v, dweight, decay, i, count, E);
        } else {
            for (int64_t i = first + threadIdx.x; i < min(first + TILE, count); i += block) {
                update(step, weight, master, m, v, dweight, decay, i, E);
            }
        }
    }
}
