// Both products in tensor cores, as linear_backward_04; GELU's slope where the sums stand.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch gelu_linear_dpre grid=ceil_div(N,128)*ceil_div(C,128) block=256 shared=61440
//@ launch linear_dweight grid=ceil_div(O,128)*ceil_div(C,128)*SPLIT block=256 shared=61440
//@ launch linear_add grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ scratch sums F32["SPLIT O C"]
//@ tune   SPLIT 4 16
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
//@ concedes chopped
#include "../activation.cuh"
#include "../linear/bias.cuh"
#include "../product_mma.cuh"

extern "C" __global__ void gelu_linear_dpre(F* dpre, const F* dout, const F* pre, const P* weight,
                                            int N, int C, int O) {
    int across = (C + 127) / 128;
    auto store = [=](size_t n, int c, float y) {
        dpre[n * C + c] = from_float<F>(y * gelu_slope(to_float(pre[n * C + c])));
    };
    product_mma<true, false>(dout, weight, N, C, O, blockIdx.x / across * 128,
                             blockIdx.x % across * 128, 0, (O + 31) / 32, store);
}

extern "C" __global__ void linear_dweight(float* sums, const F* dout, const F* act, int N, int C,
                                          int O) {
    int across = (C + 127) / 128, tile = blockIdx.x / SPLIT, part = blockIdx.x % SPLIT;
    int stages = (N + 31) / 32, each = (stages + SPLIT - 1) / SPLIT;
    auto store = [=](size_t o, int c, float y) { sums[((size_t)part * O + o) * C + c] = y; };
    product_mma<false, false>(dout, act, O, C, N, tile / across * 128, tile % across * 128,
                              min(part * each, stages), min((part + 1) * each, stages), store);
}

extern "C" __global__ void linear_add(G* dweight, const float* sums, int O, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, size = (size_t)O * C;
    if (i >= size) return;
    float sum = 0.0f;
    for (int part = 0; part < SPLIT; part++) sum += sums[part * size + i];
    dweight[i] += sum;
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
