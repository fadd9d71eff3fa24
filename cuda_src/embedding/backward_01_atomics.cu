// A thread an element of dout, added atomically to the rows of its token and of its position. The
// order in which a row gets its parts is that of the clock.
//
//@ block  256 128
//@ grid   ceil_div(B * T * C, block)
//@ dtype  all=float32 | R=bfloat16
#include "common.cuh"

extern "C" __global__ void embedding_backward(G* dwte, G* dwpe, const R* dout, const int* tokens,
                                              int B, int T, int C) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)B * T * C) return;
    int64_t row = i / C;
    int c = i - row * C;
    float d = to_float(dout[i]);
    atomicAdd(&dwte[(size_t)tokens[row] * C + c], d);
    atomicAdd(&dwpe[row % T * C + c], d);
}
