// Three rows at a time, packet by packet: a thread stores a packet of the row before, asks for the
// same packet of the row after into the room that this made free, and adds a packet of this row to
// its maximum and sum. Loads, stores and exponentials are spread evenly over the whole time.
// Against 06: no bursts (all loads, then maximum, then sum, then all stores, each with the rest of
// the machine idle); maximum and sum in one pass; one barrier a row, not four.
//
//@ block  1024 640 768
//@ grid   min(ceil_div(N, 2), multiprocessors)
//@ shared ceil_div(Vp, 8) * 32
//@ needs  Vp <= 57344
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gradient.cuh"
#include "ptx.cuh"
#include "words.cuh"

constexpr int SIZE = Packet<F>::size;
constexpr int AHEAD = 6144 / block;  // packets of a thread on their way: 96 KB of a block
constexpr float LOWEST = -0x1.fep127f;  // of bfloat16; finite, so that LOWEST - LOWEST is 0

using Bits = Words<F>;

// A row of this block, and the rows of the same block before and after. `before` and `here` are
// null where there is none; `after` is, unless `more`, any row, and is not read.
struct Rows {
    F *before, *here;
    const F* after;
    bool more;
};

// Columns c, c + 1, .. as float; minus infinity from `end` on.
template <bool whole>
__device__ inline void open(float (&x)[SIZE], const Bits& bits, int c, int end) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        x[j] = whole || c + j < end ? number(bits, j) : -INFINITY;
    }
}

template <bool packed, bool whole>
__device__ inline void store_gradient(F* to, const Bits& scores, int c, const Row& row) {
    float x[SIZE];
    open<whole>(x, scores, c, row.V);
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        x[j] = row.share * exponential<F>(x[j] - row.largest);
        if (!whole && c + j >= row.V) x[j] = 0.0f;  // also where the sum is NaN
    }
    Bits bits = as_words<F>(x);
    if (packed) return store_packet_once(to, reinterpret_cast<const Packet<F>&>(bits));
#pragma unroll
    for (int j = 0; j < SIZE; j++)
        if (c + j < row.Vp) to[j] = get<F>(bits, j);
}

// As in row.cuh, without a branch: `largest` starts at LOWEST. Minus infinity adds 0 to the sum;
// infinity and NaN make it NaN, and a row of minus infinities leaves it 0, which makes NaNs later.
template <bool whole>
__device__ inline void take_packet(Online& all, const Bits& bits, int c, int V) {
    float x[SIZE], top = all.largest, sum = 0.0f;
    open<whole>(x, bits, c, V);
#pragma unroll
    for (int j = 0; j < SIZE; j += 2) top = fmaxf(top, fmaxf(x[j], x[j + 1]));
#pragma unroll
    for (int j = 0; j < SIZE; j += 2) {
        sum += exponential<F>(x[j] - top) + exponential<F>(x[j + 1] - top);
    }
    all.sum = fmaf(all.sum, exponential<F>(all.largest - top), sum);
    all.largest = top;
}
__device__ inline Online warp_whole(Online all) {
    float top = warp_max(all.largest);
    return {top, warp_sum(__fmul_rn(all.sum, exponential<F>(all.largest - top)))};
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

// One packet of each row, columns c, ..: that of `before` becomes its gradient out of `spare`,
// where that of `after` comes in (what a thread asks for, it alone will read); that of `here` is in
// `kept`. A group of copies a packet, empty ones too: the one asked for AHEAD packets ago is there.
template <bool packed, bool steady>
__device__ inline void packets(Online& all, const Rows& rows, const Row& row, Bits* spare,
                               const Bits* kept, int c) {
    if (steady || (rows.before && c < row.Vp)) {
        Bits x = {};
        if (steady || c < row.V) x = *spare;
        store_gradient<packed, steady>(rows.before + c, x, c, row);
    }
    if (steady || (rows.more && c < row.V)) {
        if (packed) copy_async_16(spare, rows.after + c, rows.more);
        else *reinterpret_cast<Packet<F>*>(spare) = load_columns<false>(rows.after, c, row.V);
    }
    copy_async_commit();
    copy_async_wait<AHEAD>();
    if (steady || (rows.here && c < row.V)) take_packet<steady>(all, *kept, c, row.V);
}

// All packets of a thread: first, quickly, those that meet the row's end in no lane of its warp.
template <bool packed>
__device__ inline Online step(const Rows& rows, const Row& row, Bits* spare, const Bits* kept) {
    Online all = {LOWEST, 0.0f};
    bool steady = packed && rows.before && rows.here;
    int k = 0, own = threadIdx.x, lanes = (own / 32 + 1) * 32;
    int whole = steady ? (row.V / SIZE - lanes + block) / block : 0;
#pragma unroll 2
    for (; k < whole; k++, own += block) {
        packets<packed, packed>(all, rows, row, spare + own, kept + own, own * SIZE);
    }
    for (; k < AHEAD || k * block * SIZE < row.Vp; k++, own += block) {
        packets<packed, false>(all, rows, row, spare + own, kept + own, own * SIZE);
    }
    return all;
}

template <bool packed>
__device__ inline void walk(Bits* rooms, float* losses, F* logits, const int* targets, float dscale,
                            int N, int V, int Vp) {
    __shared__ Online room[2][32];
    int side = (Vp + SIZE - 1) / SIZE, apart = gridDim.x, odd = 0, target = 0;
    size_t away = (size_t)apart * Vp;
    Row row = {0.0f, 1.0f, 0.0f, dscale, V, Vp};
    step<packed>({nullptr, nullptr, logits + (size_t)blockIdx.x * Vp, true}, row, rooms, rooms);
    for (int n = blockIdx.x; n - apart < N; n += apart, odd ^= 1) {
        F* here = logits + (size_t)n * Vp;
        bool more = n + apart < N;
        Rows rows = {n < apart ? nullptr : here - away, n < N ? here : nullptr,
                     more ? here + away : logits, more};
        Bits *kept = rooms + odd * side, *spare = rooms + (odd ^ 1) * side;
        bool mine = rows.before && target / SIZE % block == threadIdx.x;
        float at_target = mine ? to_float(get<F>(spare[target / SIZE], target % SIZE)) : 0.0f;
        int next_target = n < N ? targets[n] : 0;
        Online all = step<packed>(rows, row, spare, kept);
        if (mine) {
            correct_target(rows.before, target, at_target, row);
            losses[n - apart] = (row.largest - at_target) + logf(row.sum);
        }
        if (n >= N) break;
        all = block_whole(all, room[odd]);
        row = {all.largest, all.sum, dscale / all.sum, dscale, V, Vp};
        target = next_target;
    }
}

extern "C" __global__ void __launch_bounds__(block, 1)
classifier_forward(float* losses, F* logits, const int* targets, const float* dscale, int N, int V,
                   int Vp) {
    DYNAMIC_SHARED(Bits, rooms);
    if (rows_in_packets(Vp, logits)) walk<true>(rooms, losses, logits, targets, *dscale, N, V, Vp);
    else walk<false>(rooms, losses, logits, targets, *dscale, N, V, Vp);
}
