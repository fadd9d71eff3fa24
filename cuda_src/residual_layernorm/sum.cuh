// A packet of the residual sum, as it is stored.
#pragma once
#include "layernorm/row.cuh"

__device__ inline Words<R> summed(const Words<R>& a, const Words<F>& b) {
    float x[SIZE];
#pragma unroll
    for (int j = 0; j < SIZE; j++) x[j] = number(a, j) + number(b, j);
    return as_words<R>(x);
}
