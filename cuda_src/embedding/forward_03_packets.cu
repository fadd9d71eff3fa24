// A warp takes ROWS tokens in turn, 16 bytes a lane at a time.
// Against 02: no division at every element, a quarter or an eighth of the loads and stores.
//
//@ block  256 128
//@ tune   ROWS 4 1
//@ grid   ceil_div(B * T, block / 32 * ROWS)
//@ dtype  all=float32 | P=bfloat16 R=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "elements.cuh"

template <bool packed>
__device__ inline void add(R* out, const P* word, const P* place, int C) {
    constexpr int size = Packet<P>::size;
    static_assert(size == Packet<R>::size, "tables and stream in packets of one length");
    for (int c = threadIdx.x % 32 * size; c < C; c += 32 * size) {
        Packet<P> a, b;
        if (packed) a = load_packet(word + c), b = load_packet(place + c);
        else a = load_some<false>(word + c, C - c), b = load_some<false>(place + c, C - c);
        Packet<R> sum;
#pragma unroll
        for (int j = 0; j < size; j++) {
            sum.at[j] = from_float<R>(to_float(a.at[j]) + to_float(b.at[j]));
        }
        store_some<packed>(out + c, sum, C - c);
    }
}

extern "C" __global__ void embedding_forward(R* out, const int* tokens, const P* wte, const P* wpe,
                                             int B, int T, int C) {
    bool packed = C % Packet<P>::size == 0 && is_aligned(out, wte, wpe);
    int64_t first = ((int64_t)blockIdx.x * (block / 32) + threadIdx.x / 32) * ROWS;
    for (int64_t row = first; row < min(first + ROWS, (int64_t)B * T); row++) {
        const P *word = wte + (size_t)tokens[row] * C, *place = wpe + row % T * C;
        if (packed) add<true>(out + row * C, word, place, C);
        else add<false>(out + row * C, word, place, C);
    }
}
