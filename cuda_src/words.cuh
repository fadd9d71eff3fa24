// 16 bytes as the four 32-bit words they are. Packets that are kept for long (a whole row, or the
// next one) stay in this form: as bfloat16 each number of one would take a register of its own.
#pragma once
#include "common.cuh"

template <class T> struct alignas(16) Words {
    static constexpr int size = 16 / sizeof(T);
    unsigned at[4];
};

// Number j of a packet as float. A bfloat16 is the upper half of one; even j lie in lower halves.
template <class T> __device__ inline float number(const Words<T>& words, int j) {
    if constexpr (sizeof(T) == 4) return __uint_as_float(words.at[j]);
    unsigned word = words.at[j / 2];
    return __uint_as_float(j % 2 ? word & 0xffff0000u : word << 16);
}

// `size` floats, rounded to T, as a packet.
template <class T> __device__ inline Words<T> as_words(const float* x) {
    Words<T> words;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (sizeof(T) == 4) {
            words.at[i] = __float_as_uint(x[i]);
        } else {
            __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
            words.at[i] = reinterpret_cast<const unsigned&>(pair);
        }
    }
    return words;
}

template <class T> __device__ inline Words<T> load_words(const T* from) {
    return *reinterpret_cast<const Words<T>*>(from);
}
template <class T> __device__ inline Words<T> load_words_once(const T* from) {
    int4 bits = __ldcs(reinterpret_cast<const int4*>(from));
    return {(unsigned)bits.x, (unsigned)bits.y, (unsigned)bits.z, (unsigned)bits.w};
}
template <class T> __device__ inline void store_words(T* to, const Words<T>& words) {
    *reinterpret_cast<Words<T>*>(to) = words;
}

// One number at a time, for addresses that are no multiples of 16.
template <class T> __device__ inline void set(Words<T>& words, int j, T x) {
    if constexpr (sizeof(T) == 4) words.at[j] = reinterpret_cast<const unsigned&>(x);
    else words.at[j / 2] |= (unsigned)reinterpret_cast<const uint16_t&>(x) << (j % 2 * 16);
}
template <class T> __device__ inline T get(const Words<T>& words, int j) {
    if constexpr (sizeof(T) == 4) {
        return reinterpret_cast<const T&>(words.at[j]);
    } else {
        uint16_t half = words.at[j / 2] >> (j % 2 * 16);
        return reinterpret_cast<const T&>(half);
    }
}

// The same numbers under another role's type of the same length.
template <class T, class S> __device__ inline Words<T> as_role(const Words<S>& words) {
    static_assert(sizeof(T) == sizeof(S), "roles of one type");
    return {words.at[0], words.at[1], words.at[2], words.at[3]};
}
