// The position is counted through the whole batch instead of from each row's start.
//
//@ reject gate: positions do not start anew in each sequence
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void embedding_forward(float* out, const int* tokens, const float* wte, const float* wpe,
                       int B, int T, int C, int Tmax) {
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            size_t row = (size_t)b * T + t;
            const float* word = wte + (size_t)tokens[row] * C;  // wte[token, :]
            const float* place = wpe + row % Tmax * C;
            for (int c = 0; c < C; c++) {
                out[row * C + c] = word[c] + place[c];
            }
        }
    }
}
