// The second launch of backward's deterministic rungs: the blocks' partial sums of dweight and
// dbias, `part` [parts, 2 C], added up column by column, in a fixed order. A block of 1024 threads
// has 32 columns: a warp takes every 32nd part, a lane a column, so that loads are whole lines.
#pragma once
#include "common.cuh"

__device__ inline void add_columns(float* dweight, float* dbias, const float* part, int parts,
                                   int channels, float (&room)[32][33]) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = 2 * channels;
    int column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 4
        for (int p = warp; p < parts; p += 32) sum += part[(size_t)p * width + column];
    }
    room[warp][lane] = sum;
    __syncthreads();
    sum = warp_sum(room[lane][warp]);  // now warp w has column w
    column = blockIdx.x * 32 + warp;
    if (lane == 0 && column < channels) dweight[column] += sum;
    if (lane == 0 && column >= channels && column < width) dbias[column - channels] += sum;
}
