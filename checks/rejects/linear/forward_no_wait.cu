// 16 x 16 tiles brought by asynchronous copies that nobody waits for.
//
//@ reject gate: tiles are used before their copies have landed
//@ launch linear_forward grid=ceil_div(N,16)*ceil_div(O,16) block=256
//@ dtype  all=float32
//@ needs  C % 16 == 0 and N % 16 == 0 and O % 16 == 0
//@ claims deterministic
#include "common.cuh"

#include "ptx.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    __shared__ __align__(16) float a[16][20];
    __shared__ __align__(16) float b[16][20];
    int across = O / 16, y = threadIdx.x / 16, x = threadIdx.x % 16;
    int n = blockIdx.x / across * 16 + y, o = blockIdx.x % across * 16 + x;
    int row = blockIdx.x % across * 16 + y;
    float sum = 0.0f;
    for (int c = 0; c < C; c += 16) {
        if (x % 4 == 0) {
            copy_async_16(&a[y][x], inp + (size_t)n * C + c + x);
            copy_async_16(&b[y][x], weight + (size_t)row * C + c + x);
        }
        copy_async_commit();
        __syncthreads();
        for (int k = 0; k < 16; k++) sum += a[y][k] * b[x][k];
        __syncthreads();
    }
    out[(size_t)n * O + o] = from_float<F>(sum + to_float(bias[o]));
}
