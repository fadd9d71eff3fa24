// Tokens are sorted by word first. Then a warp takes 32 neighbours of the sorted list and a slice
// of the channels, and adds rows of one word in registers. A word that goes on beyond the 32 leaves
// a part; the warp with its beginning takes its parts together in a last launch.
// Against 03: no block searches all tokens, and no word, however frequent, waits for one block: all
// rows of dout are on their way at a time, each is read once, each word's row is touched once.
//
//@ block   256
//@ tune    TILE 2048 1024
//@ needs   Vp <= 65536
//@ launch  count_low grid=ceil_div(B*T,TILE) block=256
//@ launch  sort_low grid=ceil_div(B*T,TILE) block=256
//@ launch  count_high grid=ceil_div(B*T,TILE) block=256
//@ launch  sort_high grid=ceil_div(B*T,TILE) block=256
//@ launch  embedding_runs grid=ceil_div(ceil_div(B*T,32)*ceil_div(C,128),8) block=256
//@ launch  embedding_joins grid=ceil_div(ceil_div(B*T,32)*ceil_div(C,128),8) block=256
//@ launch  embedding_positions grid=ceil_div(T*ceil_div(C,4),block) block=block
//@ scratch counts I32["ceil_div(B*T,TILE)*256"]
//@ scratch low_words I32["B*T"]
//@ scratch low_places I32["B*T"]
//@ scratch words I32["B*T"]
//@ scratch places I32["B*T"]
//@ scratch part F32["2*ceil_div(B*T,32)*C"]
//@ dtype   all=float32 | R=bfloat16
//@ claims  deterministic
#include "positions.cuh"
#include "sort.cuh"

constexpr int SIZE = Packet<R>::size, RUN = 32;

extern "C" __global__ void count_low(int* counts, const int* tokens, int B, int T) {
    count_digits<TILE>(counts, tokens, (int64_t)B * T, 0);
}
extern "C" __global__ void sort_low(int* low_words, int* low_places, const int* tokens,
                                    const int* counts, int B, int T) {
    scatter<TILE>(low_words, low_places, tokens, nullptr, counts, (int64_t)B * T, 0);
}
extern "C" __global__ void count_high(int* counts, const int* low_words, int B, int T) {
    count_digits<TILE>(counts, low_words, (int64_t)B * T, 8);
}
extern "C" __global__ void sort_high(int* words, int* places, const int* low_words,
                                     const int* low_places, const int* counts, int B, int T) {
    scatter<TILE>(words, places, low_words, low_places, counts, (int64_t)B * T, 8);
}

// to[c..] += sum, or = sum, for the channels there are.
template <bool packed, int count>
__device__ inline void leave(float* to, const float (&sum)[count], bool add, int c, int C) {
    if (packed && c + count <= C) {
#pragma unroll
        for (int q = 0; q < count; q += 4) {
            Packet<float> four = {};
            if (add) four = load_packet(to + c + q);
#pragma unroll
            for (int j = 0; j < 4; j++) four.at[j] += sum[q + j];
            store_packet(to + c + q, four);
        }
    } else {
#pragma unroll
        for (int j = 0; j < count; j++)
            if (c + j < C) to[c + j] = (add ? to[c + j] : 0.0f) + sum[j];
    }
}

// One run of the sorted list, channels from c on. Parts of a run: 2 run, of a word that began
// before it; 2 run + 1, of one that begins in it and goes on behind it.
template <bool packed>
__device__ inline void add_run(G* dwte, float* part, const R* dout, const int* words,
                               const int* places, int64_t run, int64_t count, int c, int C) {
    constexpr int EACH = 8;
    int64_t start = run * RUN;
    int here = min((int64_t)RUN, count - start), lane = threadIdx.x % 32;
    int word = lane < here ? words[start + lane] : -1;
    int place = lane < here ? places[start + lane] : 0;
    int before = start > 0 ? words[start - 1] : -1;
    int after = start + RUN < count ? words[start + RUN] : -1;
    bool began = false;  // whether the word at hand began in this run
    float sum[SIZE] = {};
    for (int first = 0; first < here; first += EACH) {
        Packet<R> d[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int64_t row = __shfl_sync(FULL, place, first + k);
            if (first + k < here) d[k] = load_some<packed>(dout + row * C + c, C - c);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int own = __shfl_sync(FULL, word, first + k);
            int next = __shfl_sync(FULL, word, first + k + 1);
            bool last = first + k + 1 == here;
            if (first + k >= here) break;
#pragma unroll
            for (int j = 0; j < SIZE; j++) sum[j] += to_float(d[k].at[j]);
            if (!last && own == next) continue;
            bool left = !began && own == before, right = last && own == after;
            float* to = left || right ? part + (2 * run + !left) * C : dwte + (size_t)own * C;
            leave<packed>(to, sum, !left && !right, c, C);
            began = true;
#pragma unroll
            for (int j = 0; j < SIZE; j++) sum[j] = 0.0f;
        }
    }
}

// A word that begins in the run and goes on behind it: its parts, in their order.
template <bool packed>
__device__ inline void join(G* dwte, const float* part, const int* words, int64_t run,
                            int64_t count, int c, int C) {
    constexpr int EACH = 8;
    int64_t start = run * RUN, end = start + RUN;
    if (end >= count || words[end] != words[end - 1]) return;
    int word = words[end];
    if (words[start] == word && start > 0 && words[start - 1] == word) return;
    Packet<float> x[EACH];
    float sum[4] = {};
    x[0] = load_some<packed>(part + (2 * run + 1) * C + c, C - c);
#pragma unroll
    for (int j = 0; j < 4; j++) sum[j] = x[0].at[j];
    for (int64_t next = run + 1; next * RUN < count && words[next * RUN] == word; next += EACH) {
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int64_t at = next + k;
            bool more = at * RUN < count && words[at * RUN] == word;
            x[k] = load_some<packed>(part + 2 * at * C + c, more ? C - c : 0);
        }
#pragma unroll
        for (int k = 0; k < EACH; k++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum[j] += x[k].at[j];  // zeros where there is no more
    }
    leave<packed>(dwte + (size_t)word * C, sum, true, c, C);
}

// The run and the first channel of this thread; warps beyond the last run have none.
__device__ inline int64_t run_of(int& c, int each, int C) {
    int slices = (C + 32 * each - 1) / (32 * each);
    int64_t warp = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    c = (warp % slices * 32 + threadIdx.x % 32) * each;
    return warp / slices;
}

extern "C" __global__ void embedding_runs(G* dwte, float* part, const R* dout, const int* words,
                                          const int* places, int B, int T, int C) {
    int64_t count = (int64_t)B * T;
    int c;
    int64_t run = run_of(c, SIZE, C);
    if (run * RUN >= count) return;
    bool packed = C % SIZE == 0 && is_aligned(dout, dwte, part);
    if (packed) add_run<true>(dwte, part, dout, words, places, run, count, c, C);
    else add_run<false>(dwte, part, dout, words, places, run, count, c, C);
}

extern "C" __global__ void embedding_joins(G* dwte, const float* part, const int* words, int B,
                                           int T, int C) {
    int64_t count = (int64_t)B * T;
    int c;
    int64_t run = run_of(c, 4, C);
    if (run * RUN >= count) return;
    if (C % 4 == 0 && is_aligned(dwte, part)) join<true>(dwte, part, words, run, count, c, C);
    else join<false>(dwte, part, words, run, count, c, C);
}

extern "C" __global__ void embedding_positions(G* dwpe, const R* dout, int B, int T, int C) {
    positions(dwpe, dout, B, T, C);
}
