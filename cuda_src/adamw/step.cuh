// One element's step of AdamW in float arithmetic, for adamw and adamw_master.
//
// A constant such as 0.9 is no float, and its rounding would pull every element the same way: each
// is a pair of floats whose sum is the double, and the small half joins the small term first.
// Written in fmaf, so that every path of a kernel rounds at the same places.
#pragma once
#include "common.cuh"

struct Pair {
    float high, low;
};
__device__ inline Pair split(double x) { return {(float)x, (float)(x - (float)x)}; }

// What all elements of one step share.
struct Step {
    Pair beta1, rest1, beta2, rest2;  // rest = 1 - beta
    Pair rate;                        // lr / (1 - beta1^t)
    Pair root;                        // 1 / sqrt(1 - beta2^t)
    float eps, clip;
    double fade;  // lr * weight_decay
};

// Two powers in double: for one thread of a block, which leaves them in shared memory.
__device__ inline Step step_at(float lr, int t, float scale, double beta1, double beta2, double eps,
                               double weight_decay) {
    double c1 = 1.0 - pow(beta1, (double)t), c2 = 1.0 - pow(beta2, (double)t);
    return {split(beta1), split(1.0 - beta1), split(beta2), split(1.0 - beta2), split(lr / c1),
            split(1.0 / sqrt(c2)), (float)eps, scale, lr * weight_decay};
}

// A small half times infinity may have the wrong sign: the large half speaks for both.
__device__ inline float steady(float x) { return fabsf(x) < INFINITY ? x : 0.0f; }

// The new weight; m and v become the new moments. `shrink`: lr * weight_decay * decay.
__device__ inline float stepped(const Step& s, float weight, float dweight, float& m, float& v,
                                float shrink) {
    float g = s.clip * dweight;
    float share = fmaf(s.rest2.high, g, steady(s.rest2.low * g));
    float small = steady(fmaf(s.rest1.low, g, s.beta1.low * m));
    m = fmaf(s.beta1.high, m, fmaf(s.rest1.high, g, small));
    v = fmaf(s.beta2.high, v, fmaf(share, g, steady(s.beta2.low * v)));
    float root = sqrtf(v);
    float size = fmaf(root, s.root.high, steady(root * s.root.low) + s.eps);
    float ratio = m / size;
    float kept = fmaf(-shrink, weight, weight);
    return fmaf(-s.rate.high, ratio, kept - steady(s.rate.low * ratio));
}

// Four numbers that lie together: 16 bytes of float, 8 of bfloat16.
template <class T> struct alignas(4 * sizeof(T)) Four {
    T at[4];
};
template <class T> __device__ inline Four<T> load_four(const T* from) {
    return *reinterpret_cast<const Four<T>*>(from);
}
template <class T> __device__ inline void store_four(T* to, const Four<T>& four) {
    *reinterpret_cast<Four<T>*>(to) = four;
}
// Whether a region is fours, each of one segment, whose number is `i / 4 / (E / 4)` in 32 bits.
__device__ inline bool in_fours(int64_t count, int E) { return E % 4 == 0 && count >> 34 == 0; }
__device__ inline int segment_of_four(int64_t i, int E) {
    return (unsigned)(i / 4) / (unsigned)(E / 4);
}
