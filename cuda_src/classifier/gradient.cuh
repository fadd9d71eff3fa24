// The gradient of a packet of scores, and of the one at the target.
#pragma once
#include "softmax/row.cuh"

// What a row's scores become. `share`: dscale / sum.
struct Row {
    float largest, sum, share, dscale;
    int V, Vp;
};

// Columns from c on: share * exp(x - largest), zero from V on (also where the sum is NaN).
template <class T> __device__ inline void to_gradient(Packet<T>& x, int c, const Row& row) {
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++) {
        x.at[j] = from_float<T>(row.share * exponential<T>(to_float(x.at[j]) - row.largest));
    }
    if (c + Packet<T>::size <= row.V) return;
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++)
        if (c + j >= row.V) x.at[j] = from_float<T>(0.0f);
}

// By the thread that stored the target's packet: no other element needs to be compared with it.
template <class T>
__device__ inline void correct_target(T* logits, int target, float at_target, const Row& row) {
    float p = exponential<T>(at_target - row.largest) / row.sum;
    logits[target] = from_float<T>(row.dscale * (p - 1.0f));
}
