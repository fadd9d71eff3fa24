// Linear's plain kernels; the gradient of act is multiplied by the GELU's slope where it arises.
//
//@ launch gelu_linear_dpre    grid=ceil_div(N*C,block) block=block
//@ launch gelu_linear_dweight grid=ceil_div(O*C,block) block=block
//@ launch gelu_linear_dbias   grid=ceil_div(O,block)   block=block
//@ block  256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"

extern "C" __global__ void gelu_linear_dpre(F* dpre, const F* dout, const F* pre, const P* weight,
                                            int N, int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    size_t n = i / C, c = i % C;
    float sum = 0.0f;
    for (int o = 0; o < O; o++)
        sum += to_float(dout[n * O + o]) * to_float(weight[(size_t)o * C + c]);
    dpre[i] = from_float<F>(sum * slope_by_tanh(to_float(pre[i])));
}

extern "C" __global__ void gelu_linear_dweight(G* dweight, const F* dout, const F* act, int N,
                                               int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)O * C) return;
    size_t o = i / C, c = i % C;
    float sum = 0.0f;
    for (size_t n = 0; n < N; n++) sum += to_float(dout[n * O + o]) * to_float(act[n * C + c]);
    dweight[i] += sum;
}

extern "C" __global__ void gelu_linear_dbias(G* dbias, const F* dout, int N, int O) {
    size_t o = (size_t)blockIdx.x * block + threadIdx.x;
    if (o >= O) return;
    float sum = 0.0f;
    for (size_t n = 0; n < N; n++) sum += to_float(dout[n * O + o]);
    dbias[o] += sum;
}
