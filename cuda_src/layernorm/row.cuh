// A row of C channels (compiled in) kept in the registers of a team of warps: one warp up to
// C = ONE_WARP, two up to twice that, then four and eight. Lane l of the team holds the packets
// l, l + TEAM, l + 2 TEAM ..; zeros stand where the row has ended.
#pragma once
#include "words.cuh"

#ifndef ONE_WARP
#define ONE_WARP 1024  // a lane holds 32 numbers at most
#endif

constexpr int WARPS = C <= ONE_WARP ? 1 : C <= 2 * ONE_WARP ? 2 : C <= 4 * ONE_WARP ? 4 : 8;
constexpr int TEAM = 32 * WARPS;     // lanes of a team
constexpr int TEAMS = block / TEAM;  // rows a block does at once
static_assert(block % TEAM == 0, "a block of whole teams; the file's `needs` see to it");

constexpr int SIZE = Words<R>::size;                            // numbers in a packet
constexpr int PACKETS = (C + TEAM * SIZE - 1) / (TEAM * SIZE);  // packets a lane holds
constexpr int HELD = PACKETS * SIZE;                            // numbers a lane holds
static_assert(SIZE == Words<F>::size && SIZE == Words<P>::size, "packets of one length");

// The first channel of the lane's packet v.
__device__ inline int channel(int v) { return (v * TEAM + (int)threadIdx.x % TEAM) * SIZE; }

// Whether the row has the channel of number j in the packet at channel c; whole packets have or
// have not.
constexpr bool WHOLE = C % SIZE == 0;
__device__ inline bool inside(int c, int j) {
    return PACKETS * TEAM * SIZE == C || (WHOLE ? c < C : c + j < C);
}

// The packet at channel c of a row, read once or kept near. Where `packed` is false, since
// addresses or C forbid packets: the same numbers one by one.
template <bool once = true, class T>
__device__ inline Words<T> take(const T* row, int c, bool packed) {
    Words<T> found = {};
    if (WHOLE && packed) {
        if (inside(c, 0)) found = once ? load_words_once(row + c) : load_words(row + c);
    } else {
#pragma unroll
        for (int j = 0; j < SIZE; j++)
            if (inside(c, j)) set(found, j, row[c + j]);
        __syncwarp();  // the compiler must not take a register each for the numbers of a whole row
    }
    return found;
}
template <bool once = true, class T>
__device__ inline void take_row(Words<T> (&held)[PACKETS], const T* row, bool packed) {
    if (WHOLE && packed) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++) held[v] = take<once>(row, channel(v), true);
    } else {
#pragma unroll
        for (int v = 0; v < PACKETS; v++) held[v] = take<once>(row, channel(v), false);
    }
}
template <class T>
__device__ inline void put(T* row, int c, const Words<T>& packet, bool packed) {
    if (WHOLE && packed) {
        if (inside(c, 0)) store_words(row + c, packet);
    } else {
#pragma unroll
        for (int j = 0; j < SIZE; j++)
            if (inside(c, j)) row[c + j] = get(packet, j);
    }
}

// A sum over the lanes of a team; every lane gets it. Where a team is more than a warp this is a
// barrier of the block, so all its threads must come here; `room`: 32 floats of shared memory, not
// to be used again before another barrier.
__device__ inline float team_sum(float x, float* room) {
    x = warp_sum(x);
    if constexpr (WARPS > 1) {
        int warp = threadIdx.x / 32, first = warp / WARPS * WARPS;
        if (threadIdx.x % 32 == 0) room[warp] = x;
        __syncthreads();
        x = room[first];
#pragma unroll
        for (int w = 1; w < WARPS; w++) x += room[first + w];
    }
    return x;
}

// Mean and 1 / sqrt(variance + eps) of the row that a team holds in x: the mean first, then the
// squares about it. Packets have sums of their own: short chains, small errors.
__device__ inline void statistics(const Words<R> (&x)[PACKETS], float eps, float* room, float& m,
                                  float& r) {
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        float part = 0.0f;
#pragma unroll
        for (int j = 0; j < SIZE; j++) part += number(x[v], j);
        sum += part;
    }
    m = team_sum(sum, room) / C;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        float part = 0.0f;
#pragma unroll
        for (int j = 0; j < SIZE; j++) {
            float d = inside(channel(v), j) ? number(x[v], j) - m : 0.0f;
            part = fmaf(d, d, part);
        }
        squares += part;
    }
    r = 1.0f / sqrtf(team_sum(squares, room + 32) / C + eps);
}

// The normalised row times weight plus bias, a packet of it.
__device__ inline Words<F> scaled(const Words<R>& x, float m, float r, const Words<P>& weight,
                                  const Words<P>& bias) {
    float y[SIZE];
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        y[j] = fmaf((number(x, j) - m) * r, number(weight, j), number(bias, j));
    }
    return as_words<F>(y);
}
