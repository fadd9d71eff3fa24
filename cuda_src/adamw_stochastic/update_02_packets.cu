// A thread eight neighbours, which one draw serves: weights are read and written 16 bytes at a
// time, the rest in two times 16. What all elements share is worked out by one thread a block.
// Against 01: an eighth of the draws and of the instructions that move data, float arithmetic
// (adamw/step.cuh).
//
//@ block  256 128
//@ grid   ceil_div(S * E, block * 8)
//@ dtype  all=float32 | P=bfloat16
//@ claims deterministic no_atomics
#include "adamw/step.cuh"
#include "draw.cuh"

// Eight numbers that lie together.
template <class T> struct alignas(16) Eight {
    T at[8];
};
template <class T> __device__ inline Eight<T> load_eight(const T* from) {
    return *reinterpret_cast<const Eight<T>*>(from);
}
template <class T> __device__ inline void store_eight(T* to, const Eight<T>& eight) {
    *reinterpret_cast<Eight<T>*>(to) = eight;
}

// Elements i to i + 7, which are of one segment.
__device__ inline void update_eight(const Step& step, const Draw& draw, P* weight, float* m,
                                    float* v, const G* dweight, float decay, int64_t i) {
    Eight<float> g = load_eight(dweight + i), m1 = load_eight(m + i), v1 = load_eight(v + i);
    Eight<P> w = load_eight(weight + i);
    float shrink = step.fade * decay;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float x = stepped(step, to_float(w.at[j]), g.at[j], m1.at[j], v1.at[j], shrink);
        w.at[j] = round_at_random<P>(x, draw.half(j));
    }
    store_eight(weight + i, w);
    store_eight(m + i, m1);
    store_eight(v + i, v1);
}

// Element i alone.
__device__ inline void update(const Step& step, unsigned half, P* weight, float* m, float* v,
                              const G* dweight, float decay, int64_t i) {
    float m1 = m[i], v1 = v[i], shrink = step.fade * decay;
    float x = stepped(step, to_float(weight[i]), dweight[i], m1, v1, shrink);
    weight[i] = round_at_random<P>(x, half);
    m[i] = m1;
    v[i] = v1;
}

extern "C" __global__ void adamw_stochastic_update(P* weight, float* m, float* v, const G* dweight,
                                                   const float* decay, const float* scale,
                                                   const float* lr, const int* t, int S, int E,
                                                   double beta1, double beta2, double eps,
                                                   double weight_decay, double seed) {
    __shared__ Step step;
    if (threadIdx.x == 0) step = step_at(*lr, *t, *scale, beta1, beta2, eps, weight_decay);
    __syncthreads();
    int64_t count = (int64_t)S * E, eight = (int64_t)blockIdx.x * block + threadIdx.x;
    int64_t i = eight * 8;
    if (i >= count) return;
    Draw draw = draw_eight(eight, *t, seed);
    bool whole = E % 8 == 0 && count >> 35 == 0;  // its segment's number in 32 bits
    if (whole && is_aligned(weight, m, v, dweight)) {
        float on = decay[(unsigned)eight / (unsigned)(E / 8)];
        update_eight(step, draw, weight, m, v, dweight, on, i);
    } else {
        int left = (int)min((int64_t)8, count - i);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (j >= left) break;
            update(step, draw.half(j), weight, m, v, dweight, decay[(i + j) / E], i + j);
        }
    }
}
