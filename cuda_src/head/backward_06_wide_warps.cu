// Both products on 64 x 64 of the result a warp. The vocabulary gives dweight tiles enough: its sum
// over N is not divided among blocks; every ROWS rows it is added where it stands, as in 03.
// Against 03: fewer bytes of shared memory a multiplication.
//
//@ launch head_dinp    grid=ceil_div(N,128)*ceil_div(C,block)  block=block shared=(128+block)*320
//@ launch head_dweight grid=ceil_div(Vp,128)*ceil_div(C,block) block=block shared=(128+block)*320
//@ block  128 256
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
//@ concedes chopped
#include "../linear/wide.cuh"

constexpr int ROWS = 8192;  // a multiple of the 32 that a stage holds

extern "C" __global__ void __launch_bounds__(block) head_dinp(F* dinp, const F* dlogits,
                                                              const P* weight, int N, int C,
                                                              int Vp) {
    bool pairs = wide_pairs(dinp, C);
    wide_dinp(dlogits, weight, N, C, Vp, [=](size_t n, int c, float y, float z) {
        wide_put(dinp + n * C + c, pairs, c + 1 < C, y, z);
    });
}

extern "C" __global__ void __launch_bounds__(block) head_dweight(G* dweight, const F* dlogits,
                                                                 const F* inp, int N, int C,
                                                                 int Vp) {
    int2 at = wide_place(blockIdx.x, (Vp + WIDE_M - 1) / WIDE_M, (C + WIDE_N - 1) / WIDE_N);
    bool pairs = wide_pairs(dweight, C);
    auto store = [=](size_t v, int c, float y, float z) {
        G* to = dweight + v * C + c;
        bool both = c + 1 < C;
        wide_put(to, pairs, both, to[0] + y, both ? to[1] + z : 0.0f);
    };
    for (int n = 0; n < N; n += ROWS) {
        __syncthreads();  // all have done with the tiles of the rows before
        product_wide<false, false>(dlogits, inp, Vp, C, N, at.x, at.y, n / 32,
                                   (min(n + ROWS, N) + 31) / 32, store);
    }
}
