// 16 x 16 tiles in shared memory. Where C is no multiple of 16, the last tile takes in numbers of
// the next row.
//
//@ reject gate: channels of the next row are added
//@ launch linear_forward grid=ceil_div(N,16)*ceil_div(O,16) block=256
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    __shared__ float a[16][17], b[16][17];
    int across = (O + 15) / 16, y = threadIdx.x / 16, x = threadIdx.x % 16;
    int n = blockIdx.x / across * 16 + y, o = blockIdx.x % across * 16 + x;
    size_t first = (size_t)n * C, other = ((size_t)blockIdx.x % across * 16 + y) * C;
    float sum = 0.0f;
    for (int c = 0; c < C; c += 16) {
        a[y][x] = first + c + x < (size_t)N * C ? to_float(inp[first + c + x]) : 0.0f;
        b[y][x] = other + c + x < (size_t)O * C ? to_float(weight[other + c + x]) : 0.0f;
        __syncthreads();
        for (int k = 0; k < 16; k++) sum += a[y][k] * b[x][k];
        __syncthreads();
    }
    if (n < N && o < O) out[(size_t)n * O + o] = from_float<F>(sum + to_float(bias[o]));
}
