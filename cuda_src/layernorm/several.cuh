// ROWS rows of a team at once (row.cuh): their loads are on their way together, the steps of their
// sums go side by side, and a packet of weight and bias serves all of them. Under the policy HINT.
#pragma once
#include "layernorm/row.cuh"
#include "streams.cuh"

constexpr int ROOM = 64 * ROWS;  // floats of shared memory that `statistics_of` needs

// The team's first row.
__device__ inline int64_t first_row() {
    return ((int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM) * ROWS;
}

template <class T>
__device__ inline void read_row(Words<T> (&held)[PACKETS], const T* row, bool packed) {
    if (WHOLE && packed) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++)
            if (inside(channel(v), 0)) held[v] = load_stream(row + channel(v));
    } else {
        take_row(held, row, false);
    }
}
template <class T>
__device__ inline void write_packet(T* row, int c, const Words<T>& packet, bool packed) {
    if (WHOLE && packed) {
        if (inside(c, 0)) store_stream(row + c, packet);
    } else {
        put(row, c, packet, false);
    }
}

// Several rows of bfloat16 stay packed between the passes: more of them fit.
__device__ inline void stay_packed(Words<R> (&x)[ROWS][PACKETS]) {
    if constexpr (ROWS == 1 || sizeof(R) == 4) return;
#pragma unroll
    for (int i = 0; i < ROWS * PACKETS * 4; i++)
        make_again(x[i / PACKETS / 4][i / 4 % PACKETS].at[i % 4]);
}

// Sums over the lanes of a team, ROWS of them; every lane gets them. Where a team is more than a
// warp this is a barrier of the block; `room`: 32 ROWS floats, not to be used again before another.
__device__ inline void team_sums_of(float (&x)[ROWS], float* room) {
#pragma unroll
    for (int away = 16; away > 0; away /= 2)
#pragma unroll
        for (int i = 0; i < ROWS; i++) x[i] += __shfl_xor_sync(FULL, x[i], away);
    if constexpr (WARPS > 1) {
        int warp = threadIdx.x / 32, first = warp / WARPS * WARPS;
        if (threadIdx.x % 32 == 0)
            for (int i = 0; i < ROWS; i++) room[warp * ROWS + i] = x[i];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            x[i] = room[first * ROWS + i];
#pragma unroll
            for (int w = 1; w < WARPS; w++) x[i] += room[(first + w) * ROWS + i];
        }
    }
}

// Mean and 1 / sqrt(variance + eps) of each row, as `statistics` of row.cuh.
__device__ inline void statistics_of(Words<R> (&x)[ROWS][PACKETS], float eps, float* room,
                                     float (&m)[ROWS], float (&r)[ROWS]) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        m[i] = 0.0f;
#pragma unroll
        for (int v = 0; v < PACKETS; v++) {
            float part = 0.0f;
#pragma unroll
            for (int j = 0; j < SIZE; j++) part += number(x[i][v], j);
            m[i] += part;
        }
    }
    stay_packed(x);
    team_sums_of(m, room);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        m[i] /= C;
        r[i] = 0.0f;
#pragma unroll
        for (int v = 0; v < PACKETS; v++) {
            float part = 0.0f;
#pragma unroll
            for (int j = 0; j < SIZE; j++) {
                float d = inside(channel(v), j) ? number(x[i][v], j) - m[i] : 0.0f;
                part = fmaf(d, d, part);
            }
            r[i] += part;
        }
    }
    stay_packed(x);
    team_sums_of(r, room + 32 * ROWS);
#pragma unroll
    for (int i = 0; i < ROWS; i++) r[i] = 1.0f / sqrtf(r[i] / C + eps);
}

// out = normalised rows times weight plus bias, and the statistics, of the team's rows below N.
__device__ inline void write_rows(F* out, float* mean, float* rstd,
                                  const Words<R> (&x)[ROWS][PACKETS], const float (&m)[ROWS],
                                  const float (&r)[ROWS], const P* weight, const P* bias, int N,
                                  bool packed) {
    int64_t n = first_row();
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        int c = channel(v);
        Words<P> w = take<false>(weight, c, packed), b = take<false>(bias, c, packed);
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            if (n + i < N)
                write_packet(out + (n + i) * C, c, scaled(x[i][v], m[i], r[i], w, b), packed);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        if (threadIdx.x % TEAM == i % TEAM && n + i < N) {
            mean[n + i] = m[i];
            rstd[n + i] = r[i];
        }
    }
}
