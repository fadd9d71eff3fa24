// Packets of 16 bytes that are read once and written once, under one of three policies, HINT (the
// file that takes this in lets the tuner choose it):
//   0  the hardware's own
//   1  loads past the first-level cache, 256 bytes at a time into the L2 (load_past)
//   2  loads and stores marked to leave the caches first (.cs)
// What the same bytes cost under each is a matter of the chip; what is computed is the same.
#pragma once
#include "words.cuh"

template <class T> __device__ inline Words<T> load_stream(const T* from) {
    if constexpr (HINT == 0) return load_words(from);
    const int4* at = reinterpret_cast<const int4*>(from);
    int4 bits = HINT == 1 ? load_past(at) : __ldcs(at);
    return {(unsigned)bits.x, (unsigned)bits.y, (unsigned)bits.z, (unsigned)bits.w};
}
template <class T> __device__ inline void store_stream(T* to, const Words<T>& words) {
    if constexpr (HINT < 2) return store_words(to, words);
    __stcs(reinterpret_cast<int4*>(to), reinterpret_cast<const int4&>(words));
}

// The first `left` numbers from `from` on, at most a packet; zeros beyond. One number at a time
// where addresses are not `packed` or the end comes first.
template <bool packed, class T>
__device__ inline Words<T> read_some(const T* from, int64_t left) {
    if (packed && left >= Words<T>::size) return load_stream(from);
    Words<T> some = {};
#pragma unroll
    for (int j = 0; j < Words<T>::size; j++)
        if (j < left) set(some, j, from[j]);
    return some;
}
template <bool packed, class T>
__device__ inline void write_some(T* to, const Words<T>& some, int64_t left) {
    if (packed && left >= Words<T>::size) return store_stream(to, some);
#pragma unroll
    for (int j = 0; j < Words<T>::size; j++)
        if (j < left) to[j] = get(some, j);
}
