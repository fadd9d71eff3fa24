// Tensor cores, as linear_backward_04. The vocabulary gives dweight tiles enough: its sum over N is
// not divided among blocks. But every ROWS rows it goes to memory, where it is added as floats are:
// tensor cores cut their sums off, and over 65 539 rows that was twice an honest error.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch head_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256 shared=61440
//@ launch head_dweight grid=ceil_div(Vp,128)*ceil_div(C,128) block=256 shared=61440
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
//@ concedes chopped
#include "../product_mma.cuh"

constexpr int ROWS = 8192;  // a multiple of MMA_DEPTH

extern "C" __global__ void head_dinp(F* dinp, const F* dlogits, const P* weight, int N, int C,
                                     int Vp) {
    int across = (C + 127) / 128;
    auto store = [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); };
    product_mma<true, false>(dlogits, weight, N, C, Vp, blockIdx.x / across * 128,
                             blockIdx.x % across * 128, 0, (Vp + 31) / 32, store);
}

extern "C" __global__ void head_dweight(G* dweight, const F* dlogits, const F* inp, int N, int C,
                                        int Vp) {
    int across = (C + 127) / 128;
    auto store = [=](size_t v, int c, float y) { dweight[v * C + c] += y; };
    for (int n = 0; n < N; n += ROWS) {
        __syncthreads();  // all have done with the tiles of the rows before
        product_mma<false, false>(dlogits, inp, Vp, C, N, blockIdx.x / across * 128,
                                  blockIdx.x % across * 128, n / 32, (min(n + ROWS, N) + 31) / 32,
                                  store);
    }
}
