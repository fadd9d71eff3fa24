// 16 x 16 tiles in shared memory. The next tile is loaded before all threads have used this one.
//
//@ reject sanitizers: no barrier between the use of a tile and the next load
//@ launch linear_forward grid=ceil_div(N,16)*ceil_div(O,16) block=256
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    __shared__ float a[16][17], b[16][17];
    int across = (O + 15) / 16, y = threadIdx.x / 16, x = threadIdx.x % 16;
    int n = blockIdx.x / across * 16 + y, o = blockIdx.x % across * 16 + x;
    int row = blockIdx.x % across * 16 + y;
    float sum = 0.0f;
    for (int c = 0; c < C; c += 16) {
        bool in = c + x < C;
        a[y][x] = in && n < N ? to_float(inp[(size_t)n * C + c + x]) : 0.0f;
        b[y][x] = in && row < O ? to_float(weight[(size_t)row * C + c + x]) : 0.0f;
        __syncthreads();
        for (int k = 0; k < 16; k++) sum += a[y][k] * b[x][k];
    }
    if (n < N && o < O) out[(size_t)n * O + o] = from_float<F>(sum + to_float(bias[o]));
}
