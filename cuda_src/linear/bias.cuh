// The bias gradient, sums over the N rows of dout [N, O], in two launches without atomics: PARTS
// slices of the rows are summed side by side, then a thread a column adds the slices in order.
#pragma once
#include "common.cuh"

constexpr int PARTS = 128, COLUMNS = 64, LINES = 4;  // a block: 64 columns, 4 rows at a time

// Block (slice, group of columns); part [PARTS, O]. 256 threads.
template <class T>
__device__ inline void bias_parts(float* part, const T* dout, int N, int O) {
    __shared__ float room[LINES][COLUMNS];
    int x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
    int slice = blockIdx.x % PARTS, o = blockIdx.x / PARTS * COLUMNS + x;
    int rows = (N + PARTS - 1) / PARTS, end = min(N, (slice + 1) * rows);
    float sum = 0.0f;
    if (o < O)
        for (int n = slice * rows + y; n < end; n += LINES)
            sum += to_float(dout[(size_t)n * O + o]);
    room[y][x] = sum;
    __syncthreads();
    if (y == 0 && o < O)
        part[(size_t)slice * O + o] = (room[0][x] + room[1][x]) + (room[2][x] + room[3][x]);
}

__device__ inline void bias_finish(G* dbias, const float* part, int O) {
    int o = blockIdx.x * blockDim.x + threadIdx.x;
    if (o >= O) return;
    float sum = 0.0f;
    for (int slice = 0; slice < PARTS; slice++) sum += part[(size_t)slice * O + o];
    dbias[o] += sum;
}
