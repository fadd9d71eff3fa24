// The row is read once and kept: with C compiled in, every lane's numbers have registers of their
// own. Then the mean may come first and the squares about it after, as in 03, for one read. Rows of
// more than 1024 channels have a team of warps (row.cuh).
// Against 04: one read and no division a number.
//
//@ block   256 128 512
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)))
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "row.cuh"

constexpr int EACH = (C + TEAM - 1) / TEAM;

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, float eps) {
    __shared__ float room[64];
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM, lane = threadIdx.x % TEAM;
    int length = n < N ? C : 0;  // of a row that is none: nothing
    size_t row = (size_t)n * C;

    float x[EACH], sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int c = lane + i * TEAM;
        x[i] = c < length ? to_float(inp[row + c]) : 0.0f;
        sum += x[i];
    }
    float m = team_sum(sum, room) / C;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float d = lane + i * TEAM < C ? x[i] - m : 0.0f;
        squares += d * d;
    }
    float r = 1.0f / sqrtf(team_sum(squares, room + 32) / C + eps);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int c = lane + i * TEAM;
        if (c < length) {
            float xhat = (x[i] - m) * r;
            out[row + c] = from_float<F>(xhat * to_float(weight[c]) + to_float(bias[c]));
        }
    }
    if (lane == 0 && n < N) {
        mean[n] = m;
        rstd[n] = r;
    }
}
