// A warp takes one position of ROWS sequences, whose vector it reads once, and asks for WIDE
// packets of every row before it adds any: 3 hold 768 channels of bfloat16, 6 as many of float32.
// Against 03: a row costs one wait for memory, not one for every packet of a lane.
//
//@ block  128 64 256
//@ tune   ROWS 1 2
//@ tune   WIDE 3 6
//@ needs  ROWS * WIDE < 12
//@ grid   ceil_div(ceil_div(B, ROWS) * T, block / 32)
//@ dtype  all=float32 | P=bfloat16 R=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "words.cuh"

constexpr int SIZE = Words<P>::size, SPAN = 32 * SIZE;
static_assert(SIZE == Words<R>::size, "tables and stream in packets of one length");

// The first `left` numbers from `from` on, at most a packet; zeros beyond.
template <bool packed> __device__ inline Words<P> read(const P* from, int left) {
    if (packed && left >= SIZE) return load_words(from);
    Words<P> some = {};
#pragma unroll
    for (int j = 0; j < SIZE; j++)
        if (j < left) set(some, j, from[j]);
    return some;
}
template <bool packed> __device__ inline void write(R* to, const Words<R>& some, int left) {
    if (packed && left >= SIZE) return store_words(to, some);
#pragma unroll
    for (int j = 0; j < SIZE; j++)
        if (j < left) to[j] = get(some, j);
}

__device__ inline Words<R> sum_of(const Words<P>& word, const Words<P>& place) {
    float x[SIZE];
#pragma unroll
    for (int j = 0; j < SIZE; j++) x[j] = number(word, j) + number(place, j);
    return as_words<R>(x);
}

// Rows `apart` numbers apart in the stream, of words tokens[0], tokens[T], ..; `rows` of them.
template <bool packed>
__device__ inline void embed(R* out, const int* tokens, const P* wte, const P* place, int rows,
                             int T, size_t apart, int C) {
    const P* word[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        word[r] = wte + (r < rows ? (size_t)tokens[(size_t)r * T] * C : 0);
    for (int first = threadIdx.x % 32 * SIZE; first < C; first += WIDE * SPAN) {
        Words<P> a[ROWS][WIDE], b[WIDE];
#pragma unroll
        for (int k = 0; k < WIDE; k++) {
            int c = first + k * SPAN;
            b[k] = read<packed>(place + c, C - c);
#pragma unroll
            for (int r = 0; r < ROWS; r++) a[r][k] = read<packed>(word[r] + c, C - c);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int k = 0; k < WIDE; k++) {
                int c = first + k * SPAN;
                if (r < rows) write<packed>(out + r * apart + c, sum_of(a[r][k], b[k]), C - c);
            }
    }
}

extern "C" __global__ void __launch_bounds__(block)
embedding_forward(R* out, const int* tokens, const P* wte, const P* wpe, int B, int T, int C) {
    int64_t warp = (int64_t)blockIdx.x * (block / 32) + threadIdx.x / 32;
    int t = warp % T;
    int64_t b = warp / T * ROWS;
    if (b >= B) return;
    int64_t row = b * T + t;
    int rows = min((int64_t)ROWS, B - b);
    const P* place = wpe + (size_t)t * C;
    if (C % SIZE == 0 && is_aligned(out, wte, wpe))
        embed<true>(out + row * C, tokens + row, wte, place, rows, T, (size_t)T * C, C);
    else
        embed<false>(out + row * C, tokens + row, wte, place, rows, T, (size_t)T * C, C);
}
