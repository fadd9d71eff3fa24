// Three rows at a time, packet by packet: a thread stores a packet of the row before, asks for the
// same packet of the row after into the room that this made free, and adds a packet of this row to
// its maximum and sum. Loads, stores and exponentials are spread evenly over the whole time.
// Against 06: no bursts (all loads, then maximum, then sum, then all stores, each with the rest of
// the machine idle); maximum and sum in one pass; one barrier a row, not four.
//
//@ block  1024 640 768
//@ grid   min(N, multiprocessors)
//@ shared ceil_div(Vp, 8) * 32
//@ needs  Vp <= 57344
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gradient.cuh"
#include "ptx.cuh"

constexpr int SIZE = Packet<F>::size;
constexpr int AHEAD = 6144 / block;  // packets of a thread on their way: 96 KB of a block
constexpr float LOWEST = -0x1.fep127f;  // of bfloat16; finite, so that LOWEST - LOWEST is 0

// A thread's packet of a row on its way into `kept`: what it asks for, it alone will read.
template <bool packed> __device__ inline void ask(Packet<F>* kept, const F* row, int c, int V) {
    if (packed) copy_async_16(kept, row + c);
    else *kept = load_columns<false>(row, c, V);
}

// The packet that V divides came with padding.
__device__ inline void without_padding(Packet<F>& x, int c, int V) {
    if (c + SIZE <= V) return;
#pragma unroll
    for (int j = 0; j < SIZE; j++)
        if (c + j >= V) x.at[j] = from_float<F>(-INFINITY);
}

// As in row.cuh, without a branch: `largest` starts at LOWEST. Minus infinity adds 0 to the sum;
// infinity and NaN make it NaN, and a row of minus infinities leaves it 0, which makes NaNs later.
__device__ inline void take_packet(Online& all, const Packet<F>& x) {
    float top = all.largest, sum = 0.0f;
#pragma unroll
    for (int j = 0; j < SIZE; j++) top = fmaxf(top, to_float(x.at[j]));
#pragma unroll
    for (int j = 0; j < SIZE; j++) sum += exponential<F>(to_float(x.at[j]) - top);
    all.sum = fmaf(all.sum, exponential<F>(all.largest - top), sum);
    all.largest = top;
}
__device__ inline Online warp_whole(Online all) {
    float top = warp_max(all.largest);
    return {top, warp_sum(all.sum * exponential<F>(all.largest - top))};
}
// Over the block. `room` is another one for the next row: that row's barrier keeps them apart.
__device__ inline Online block_whole(Online all, Online* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    all = warp_whole(all);
    if (lane == 0) room[warp].largest = all.largest, room[warp].sum = all.sum;
    __syncthreads();
    all.largest = lane < block / 32 ? room[lane].largest : LOWEST;
    all.sum = lane < block / 32 ? room[lane].sum : 0.0f;
    return warp_whole(all);
}

// `before` (null: none) becomes its gradient out of `spare`, where `after` (null: none) comes in;
// returns the thread's part of the row in `kept`. A group of copies a packet, empty ones too, so
// that AHEAD groups ago is never later than this packet of `kept`.
template <bool packed>
__device__ inline Online step(F* before, const Row& row, Packet<F>* spare, const F* after,
                              const Packet<F>* kept, int V, int Vp) {
    Online all = {LOWEST, 0.0f};
    for (int k = 0, c = threadIdx.x * SIZE; k < AHEAD || k * block * SIZE < Vp;
         k++, c += block * SIZE) {
        if (before && c < Vp) {
            Packet<F> x = {};
            if (c < V) x = spare[c / SIZE];
            to_gradient(x, c, row);
            store_columns<packed>(before, c, Vp, x);
        }
        if (after && c < V) ask<packed>(spare + c / SIZE, after, c, V);
        copy_async_commit();
        copy_async_wait<AHEAD>();
        if (kept && c < V) {
            Packet<F> x = kept[c / SIZE];
            without_padding(x, c, V);
            take_packet(all, x);
        }
    }
    return all;
}

template <bool packed>
__device__ inline void walk(Packet<F>* rooms, float* losses, F* logits, const int* targets,
                            float dscale, int N, int V, int Vp) {
    __shared__ Online room[2][32];
    int side = (Vp + SIZE - 1) / SIZE, apart = gridDim.x, odd = 0, target = 0;
    Row row = {0.0f, 1.0f, 0.0f, dscale, V, Vp};
    step<packed>(nullptr, row, rooms, logits + (size_t)blockIdx.x * Vp, nullptr, V, Vp);
    for (int n = blockIdx.x; n - apart < N; n += apart, odd ^= 1) {
        F* here = logits + (size_t)n * Vp;
        F* before = n < apart ? nullptr : here - (size_t)apart * Vp;
        const F* after = n + apart < N ? here + (size_t)apart * Vp : nullptr;
        Packet<F>*kept = n < N ? rooms + odd * side : nullptr, *spare = rooms + (odd ^ 1) * side;
        bool mine = before && target / SIZE % block == threadIdx.x;
        float at_target = mine ? to_float(spare[target / SIZE].at[target % SIZE]) : 0.0f;
        int next_target = n < N ? targets[n] : 0;
        Online all = step<packed>(before, row, spare, after, kept, V, Vp);
        if (mine) {
            correct_target(before, target, at_target, row);
            losses[n - apart] = (row.largest - at_target) + logf(row.sum);
        }
        if (!kept) break;
        all = block_whole(all, room[odd]);
        row = {all.largest, all.sum, dscale / all.sum, dscale, V, Vp};
        target = next_target;
    }
}

extern "C" __global__ void __launch_bounds__(block, 1)
classifier_forward(float* losses, F* logits, const int* targets, const float* dscale, int N, int V,
                   int Vp) {
    DYNAMIC_SHARED(Packet<F>, rooms);
    if (rows_in_packets(Vp, logits)) walk<true>(rooms, losses, logits, targets, *dscale, N, V, Vp);
    else walk<false>(rooms, losses, logits, targets, *dscale, N, V, Vp);
}
