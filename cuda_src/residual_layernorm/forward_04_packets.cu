// 16 bytes at a time: a lane takes every 32nd packet of its row. Where addresses or C forbid
// packets, the same numbers go one by one.
// Against 03: an eighth of the loads and stores.
//
//@ block   256 128 512
//@ grid    ceil_div(N, block / 32)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace res=inp1 out=inp2
//@ claims  deterministic batch_invariant no_atomics
#include "elements.cuh"

template <bool packed>
__device__ inline void fused(R* res, F* out, float* mean, float* rstd, const R* inp1,
                             const F* inp2, const P* weight, const P* bias, int C, float eps,
                             int n) {
    constexpr int size = Packet<R>::size;
    size_t row = (size_t)n * C;
    int lane = threadIdx.x % 32;
    float sum = 0.0f, squares = 0.0f;
    for (int c = lane * size; c < C; c += 32 * size) {
        Packet<R> x = load_some<packed>(inp1 + row + c, C - c);
        Packet<F> b = load_some<packed>(inp2 + row + c, C - c);
#pragma unroll
        for (int j = 0; j < size; j++) {  // beyond C both are zero
            x.at[j] = from_float<R>(to_float(x.at[j]) + to_float(b.at[j]));
            sum += to_float(x.at[j]);
        }
        store_some<packed>(res + row + c, x, C - c);
    }
    float m = warp_sum(sum) / C;
    for (int c = lane * size; c < C; c += 32 * size) {
        Packet<R> x = load_some<packed>(res + row + c, C - c);
#pragma unroll
        for (int j = 0; j < size; j++) {
            float d = c + j < C ? to_float(x.at[j]) - m : 0.0f;
            squares = fmaf(d, d, squares);
        }
    }
    float r = 1.0f / sqrtf(warp_sum(squares) / C + eps);
    for (int c = lane * size; c < C; c += 32 * size) {
        Packet<R> x = load_some<packed>(res + row + c, C - c);
        Packet<P> w = load_some<packed>(weight + c, C - c), b = load_some<packed>(bias + c, C - c);
        Packet<F> y;
#pragma unroll
        for (int j = 0; j < size; j++) {
            float xhat = (to_float(x.at[j]) - m) * r;
            y.at[j] = from_float<F>(fmaf(xhat, to_float(w.at[j]), to_float(b.at[j])));
        }
        store_some<packed>(out + row + c, y, C - c);
    }
    if (lane == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}

extern "C" __global__ void residual_layernorm_forward(R* res, F* out, float* mean, float* rstd,
                                                      const R* inp1, const F* inp2,
                                                      const P* weight, const P* bias, int N, int C,
                                                      float eps) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32;
    if (n >= N) return;
    if (C % Packet<R>::size == 0 && is_aligned(res, out, inp1, inp2, weight, bias))
        fused<true>(res, out, mean, rstd, inp1, inp2, weight, bias, C, eps, n);
    else fused<false>(res, out, mean, rstd, inp1, inp2, weight, bias, C, eps, n);
}
