// Backward with a row in a team's registers (row.cuh): the two means a row needs, and the sums of
// dweight and dbias that a lane gathers over its rows for the channels it has. Those sums take two
// registers a number, so a lane has 24 numbers at most where warps suffice.
#pragma once
#define ONE_WARP 768
#include "columns.cuh"
#include "row.cuh"

// Two sums over the lanes of a team at once. `room`: 64 floats, not to be used again before another
// barrier; who comes here again and again takes turns between two of them.
__device__ inline void team_sums(float& a, float& b, float* room) {
    a = warp_sum(a);
    b = warp_sum(b);
    if constexpr (WARPS > 1) {
        int warp = threadIdx.x / 32, first = warp / WARPS * WARPS;
        if (threadIdx.x % 32 == 0) {
            room[warp] = a;
            room[32 + warp] = b;
        }
        __syncthreads();
        a = room[first];
        b = room[32 + first];
#pragma unroll
        for (int w = 1; w < WARPS; w++) {
            a += room[first + w];
            b += room[32 + first + w];
        }
    }
}

// The block's sums of dweight and dbias, team after team, in shared memory: `sums` [2, EACH, TEAM].
template <int EACH>
__device__ inline void add_teams(const float (&dw)[EACH], const float (&db)[EACH], float* sums) {
    float* at = sums + threadIdx.x % TEAM;
    for (int team = 0; team < TEAMS; team++) {
        if (threadIdx.x / TEAM == team) {
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                at[i * TEAM] = (team ? at[i * TEAM] : 0.0f) + dw[i];
                at[(EACH + i) * TEAM] = (team ? at[(EACH + i) * TEAM] : 0.0f) + db[i];
            }
        }
        __syncthreads();
    }
}

// The same for packets, and from there to `part`, channels in their order.
__device__ inline void put_sums(const float (&dw)[HELD], const float (&db)[HELD], float* sums,
                                float* part) {
    add_teams(dw, db, sums);
    for (int c = threadIdx.x; c < C; c += block) {
        int packet = c / SIZE, i = packet / TEAM * SIZE + c % SIZE;
        part[c] = sums[i * TEAM + packet % TEAM];
        part[C + c] = sums[(HELD + i) * TEAM + packet % TEAM];
    }
}

// Number j of a lane's packet at channel c: xhat, which is zero where the row has ended.
__device__ inline float normalised(const Words<R>& x, float m, float r, int c, int j) {
    return inside(c, j) ? (number(x, j) - m) * r : 0.0f;
}

// A row's means of g = dout weight and of g xhat; and dw += dout xhat, db += dout on the way.
__device__ inline void gather(const Words<F> (&dy)[PACKETS], const Words<R> (&x)[PACKETS],
                              const Words<P> (&w)[PACKETS], float m, float r, float (&dw)[HELD],
                              float (&db)[HELD], float* room, float& g_mean, float& gx_mean) {
    float g_sum = 0.0f, gx_sum = 0.0f;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        float g_part = 0.0f, gx_part = 0.0f;
#pragma unroll
        for (int j = 0; j < SIZE; j++) {
            int i = v * SIZE + j;
            float d = number(dy[v], j), xhat = normalised(x[v], m, r, channel(v), j);
            float g = d * number(w[v], j);
            g_part += g;
            gx_part = fmaf(g, xhat, gx_part);
            dw[i] = fmaf(d, xhat, dw[i]);
            db[i] += d;
        }
        g_sum += g_part;
        gx_sum += gx_part;
    }
    team_sums(g_sum, gx_sum, room);
    g_mean = g_sum / C;
    gx_mean = gx_sum / C;
}

// Packet v of the row's gradient: `old` plus (g - g_mean - xhat gx_mean) r.
__device__ inline Words<R> gradient(const Words<R>& old, const Words<F>& dy, const Words<R>& x,
                                    const Words<P>& w, float m, float r, float g_mean,
                                    float gx_mean, int v) {
    float y[SIZE];
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        float xhat = normalised(x, m, r, channel(v), j);
        float rest = fmaf(number(dy, j), number(w, j), -g_mean);
        y[j] = fmaf(fmaf(-xhat, gx_mean, rest), r, number(old, j));
    }
    return as_words<R>(y);
}
