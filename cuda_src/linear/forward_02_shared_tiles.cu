// Tiles of 16 x 16 in shared memory: every number is read from memory once a tile, not once an
// output, and neighbouring threads read neighbouring addresses.
// Against 01: 16 times less traffic.
//
//@ launch linear_forward grid=ceil_div(N,TILE)*ceil_div(O,TILE) block=TILE*TILE
//@ tune   TILE 16 32
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "../product.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    auto a = [=](size_t n, int c) { return to_float(inp[n * C + c]); };
    auto b = [=](size_t o, int c) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int o, float y) {
        out[n * O + o] = from_float<F>(y + to_float(bias[o]));
    };
    product_shared<TILE, true, true>(N, O, C, a, b, store);
}
