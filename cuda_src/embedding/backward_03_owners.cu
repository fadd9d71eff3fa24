// A block owns the words that leave its number as remainder. It looks through all tokens, gathers
// its own in order, by the warps' ballots, and adds their rows one after the other.
// Against 02: blocks enough for the whole GPU; a row of dout is read in whole lines, by packets.
// A word that comes in every line of a text still waits for its one block.
//
//@ block   128 256
//@ tune    OWNERS 1024
//@ launch  embedding_words grid=min(OWNERS,Vp) block=block
//@ launch  embedding_positions grid=ceil_div(T*ceil_div(C,4),block) block=block
//@ dtype   all=float32 | R=bfloat16
//@ claims  deterministic no_atomics
#include "positions.cuh"

constexpr int SIZE = Packet<R>::size;

// Where this block's tokens among the next `block` ones stand, in order; how many they are.
__device__ inline int gather(int* mine, const int* tokens, int64_t start, int64_t count) {
    __shared__ int found[block / 32];
    int64_t i = start + threadIdx.x;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    bool own = i < count && tokens[i] % gridDim.x == blockIdx.x;
    unsigned votes = __ballot_sync(FULL, own);
    if (lane == 0) found[warp] = __popc(votes);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < block / 32; w++) {
        before += w < warp ? found[w] : 0;
        all += found[w];
    }
    if (own) mine[before + __popc(votes & ((1u << lane) - 1))] = threadIdx.x;
    __syncthreads();
    return all;
}

template <bool packed>
__device__ inline void add_words(G* dwte, const R* dout, const int* tokens, int64_t count, int C) {
    __shared__ int mine[block];
    for (int64_t start = 0; start < count; start += block) {
        int all = gather(mine, tokens, start, count);
        for (int k = 0; k < all; k++) {
            int64_t row = start + mine[k];
            G* dword = dwte + (size_t)tokens[row] * C;
            for (int c = threadIdx.x * SIZE; c < C; c += block * SIZE) {
                Packet<R> d = load_some<packed>(dout + row * C + c, C - c);
#pragma unroll
                for (int j = 0; j < SIZE; j++)
                    if (c + j < C) dword[c + j] += to_float(d.at[j]);
            }
        }
        __syncthreads();
    }
}

extern "C" __global__ void embedding_words(G* dwte, const R* dout, const int* tokens, int B, int T,
                                           int C) {
    int64_t count = (int64_t)B * T;
    if (C % SIZE == 0 && is_aligned(dout)) add_words<true>(dwte, dout, tokens, count, C);
    else add_words<false>(dwte, dout, tokens, count, C);
}

extern "C" __global__ void embedding_positions(G* dwpe, const R* dout, int B, int T, int C) {
    positions(dwpe, dout, B, T, C);
}
