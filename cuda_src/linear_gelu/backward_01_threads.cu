// dpre = dout * gelu'(pre), whole and in float32; then linear's plain kernels on it.
//
//@ launch linear_gelu_dpre    grid=ceil_div(N*O,block) block=block
//@ launch linear_gelu_dinp    grid=ceil_div(N*C,block) block=block
//@ launch linear_gelu_dweight grid=ceil_div(O*C,block) block=block
//@ launch linear_gelu_dbias   grid=ceil_div(O,block)   block=block
//@ block   256
//@ scratch dpre F32["N O"]
//@ dtype   all=float32 | F=bfloat16 P=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"

extern "C" __global__ void linear_gelu_dpre(float* dpre, const F* dout, const F* pre, int N,
                                            int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i < (size_t)N * O) dpre[i] = to_float(dout[i]) * slope_by_tanh(to_float(pre[i]));
}

extern "C" __global__ void linear_gelu_dinp(F* dinp, const float* dpre, const P* weight, int N,
                                            int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    size_t n = i / C, c = i % C;
    float sum = 0.0f;
    for (int o = 0; o < O; o++) sum += dpre[n * O + o] * to_float(weight[(size_t)o * C + c]);
    dinp[i] = from_float<F>(sum);
}

extern "C" __global__ void linear_gelu_dweight(G* dweight, const float* dpre, const F* inp, int N,
                                               int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)O * C) return;
    size_t o = i / C, c = i % C;
    float sum = 0.0f;
    for (size_t n = 0; n < N; n++) sum += dpre[n * O + o] * to_float(inp[n * C + c]);
    dweight[i] += sum;
}

extern "C" __global__ void linear_gelu_dbias(G* dbias, const float* dpre, int N, int O) {
    size_t o = (size_t)blockIdx.x * block + threadIdx.x;
    if (o >= O) return;
    float sum = 0.0f;
    for (size_t n = 0; n < N; n++) sum += dpre[n * O + o];
    dbias[o] += sum;
}
