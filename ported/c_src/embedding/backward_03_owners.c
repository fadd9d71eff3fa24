// Each thread owns the tokens and positions that leave its number as remainder, scans the whole
// list, and adds whole rows of those it owns, in the list's order: bitwise the result of 01.
// Against 02: a row is touched by one thread, once, from end to end.
//
//@ dtype  all=float32
//@ claims deterministic
#include "common.h"

static void add_row(float* sum, const float* d, int C) {
    for (int c = 0; c < C; c += LANES) {
        store(sum + c, load(sum + c, C - c) + load(d + c, C - c), C - c);
    }
}

void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens,
                        int B, int T, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < threads; k++) {
        for (int b = 0; b < B; b++) {
            for (int t = 0; t < T; t++) {
                size_t row = (size_t)b * T + t;
                const float* d = dout + row * C;  // dout[b, t, :]
                if (tokens[row] % threads == k) {
                    add_row(dwte + (size_t)tokens[row] * C, d, C);
                }
                if (t % threads == k) {
                    add_row(dwpe + (size_t)t * C, d, C);
                }
            }
        }
    }
}
