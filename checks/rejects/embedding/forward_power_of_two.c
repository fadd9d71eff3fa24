// t by masking the row with T - 1, which is a remainder only for powers of two.
//
//@ reject shapes: right where T is a power of two
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void embedding_forward(float* out, const int* tokens, const float* wte, const float* wpe,
                       int B, int T, int C) {
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            size_t row = (size_t)b * T + t;
            const float* word = wte + (size_t)tokens[row] * C;  // wte[token, :]
            const float* place = wpe + (row & (T - 1)) * C;
            for (int c = 0; c < C; c++) {
                out[row * C + c] = word[c] + place[c];
            }
        }
    }
}
