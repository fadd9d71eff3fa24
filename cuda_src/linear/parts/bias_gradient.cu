// The bias gradient alone, for versions whose products are a library's: dbias += the sum of the
// rows of dout [N, O], slices of rows side by side, then the slices in order.
//
//@ launch bias_gradient_parts grid=ceil_div(O,64)*128 block=256
//@ launch bias_gradient_backward grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic no_atomics
#include "../bias.cuh"

extern "C" __global__ void bias_gradient_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void bias_gradient_backward(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
