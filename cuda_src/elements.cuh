// Elementwise kernels that move packets: a packet at a time where addresses allow it and enough
// numbers are left, one number at a time elsewhere. What is computed is the same either way.
#pragma once
#include "common.cuh"

// The first `left` numbers from `from` on, at most a packet; zeros beyond.
template <bool packed, class T>
__device__ inline Packet<T> load_some(const T* from, int64_t left) {
    if (packed && left >= Packet<T>::size) return load_packet_once(from);
    Packet<T> some = {};
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++)
        if (j < left) some.at[j] = from[j];
    return some;
}

template <bool packed, class T>
__device__ inline void store_some(T* to, const Packet<T>& some, int64_t left) {
    if (packed && left >= Packet<T>::size) return store_packet(to, some);
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++)
        if (j < left) to[j] = some.at[j];
}
