// A thread an element of each gradient, two launches: the C loops, their bodies on the GPU.
//
//@ launch head_dinp    grid=ceil_div(N*C,block)  block=block
//@ launch head_dweight grid=ceil_div(Vp*C,block) block=block
//@ block  256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void head_dinp(F* dinp, const F* dlogits, const P* weight, int N, int C,
                                     int Vp) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    size_t n = i / C, c = i % C;
    float sum = 0.0f;
    for (int v = 0; v < Vp; v++)
        sum += to_float(dlogits[n * Vp + v]) * to_float(weight[(size_t)v * C + c]);
    dinp[i] = from_float<F>(sum);
}

extern "C" __global__ void head_dweight(G* dweight, const F* dlogits, const F* inp, int N, int C,
                                        int Vp) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)Vp * C) return;
    size_t v = i / C, c = i % C;
    float sum = 0.0f;
    for (size_t n = 0; n < N; n++) sum += to_float(dlogits[n * Vp + v]) * to_float(inp[n * C + c]);
    dweight[i] += sum;
}
