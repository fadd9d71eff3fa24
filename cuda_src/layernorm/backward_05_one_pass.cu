// One pass: a team keeps the row it works on in registers, and each lane the sums of dweight and
// dbias for its channels, over all rows that come its way. At the end the block's teams are added
// up in shared memory.
// Against 04: dout and inp are read once instead of three times; C is compiled in.
//
//@ block   128 256
//@ tune    BLOCKS 3 2
//@ static  C
//@ needs   C <= 24 * block or block == 256 and C <= 8192
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block shared=(C+max(256,3*C/4))*8
//@ launch  layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ claims  deterministic batch_invariant no_atomics
#include "gradients.cuh"

constexpr int EACH = (C + TEAM - 1) / TEAM;

extern "C" __global__ void layernorm_backward(R* dinp, float* part, const F* dout, const R* inp,
                                              const P* weight, const float* mean,
                                              const float* rstd, int N) {
    DYNAMIC_SHARED(float, sums);
    __shared__ float room[128];
    int lane = threadIdx.x % TEAM, turn = 0;
    float dw[EACH] = {}, db[EACH] = {};
    int64_t step = (int64_t)gridDim.x * TEAMS, n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM;
    // As many turns for every team of the block, which may have to meet in team_sums.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
        int length = n < N ? C : 0;  // of a row that is none: nothing
        float m = n < N ? mean[n] : 0.0f, r = n < N ? rstd[n] : 0.0f;
        float g[EACH], xhat[EACH], g_sum = 0.0f, gx_sum = 0.0f;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int c = lane + i * TEAM;
            float d = c < length ? to_float(dout[n * C + c]) : 0.0f;
            xhat[i] = c < length ? (to_float(inp[n * C + c]) - m) * r : 0.0f;
            g[i] = c < length ? d * to_float(weight[c]) : 0.0f;
            g_sum += g[i];
            gx_sum += g[i] * xhat[i];
            dw[i] += d * xhat[i];
            db[i] += d;
        }
        team_sums(g_sum, gx_sum, room + turn * 64);
        turn ^= 1;
        float g_mean = g_sum / C, gx_mean = gx_sum / C;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int c = lane + i * TEAM;
            if (c < length) {
                R* dx = dinp + n * C + c;
                *dx = from_float<R>(to_float(*dx) + (g[i] - g_mean - xhat[i] * gx_mean) * r);
            }
        }
    }
    add_teams(dw, db, sums);
    float* mine = part + (size_t)blockIdx.x * 2 * C;  // part[block, :]
    for (int c = threadIdx.x; c < C; c += block) {
        mine[c] = sums[c];
        mine[C + c] = sums[EACH * TEAM + c];
    }
}

extern "C" __global__ void layernorm_backward_columns(G* dweight, G* dbias, const float* part,
                                                      int N, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
