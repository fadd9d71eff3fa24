// Eight neighbours a thread: two packets of every float array, one of bfloat16 weights, under the
// policy HINT (streams.cuh).
#pragma once
#include "adamw/step.cuh"
#include "streams.cuh"

template <class T> struct Eights {
    static constexpr int packets = 8 / Words<T>::size;
    Words<T> at[packets];
};
template <class T> __device__ inline Eights<T> load_eights(const T* from) {
    Eights<T> found;
#pragma unroll
    for (int k = 0; k < Eights<T>::packets; k++)
        found.at[k] = load_stream(from + k * Words<T>::size);
    return found;
}
// Rounds to T.
template <class T> __device__ inline void store_eights(T* to, const float (&x)[8]) {
#pragma unroll
    for (int k = 0; k < Eights<T>::packets; k++)
        store_stream(to + k * Words<T>::size, as_words<T>(x + k * Words<T>::size));
}
template <class T> __device__ inline float number(const Eights<T>& eight, int j) {
    return number(eight.at[j / Words<T>::size], j % Words<T>::size);
}
// Whether a region is eights, each of one segment, whose number is `eight / (E / 8)` in 32 bits.
__device__ inline bool in_eights(int64_t count, int E) { return E % 8 == 0 && count >> 35 == 0; }
