// Each thread takes its share of the rows.
// Against 01: the loops over b and t are one parallel loop.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void embedding_forward(float* out, const int* tokens, const float* wte, const float* wpe,
                       int B, int T, int C, int threads) {
    #pragma omp parallel for collapse(2) num_threads(threads)
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            size_t row = (size_t)b * T + t;
            const float* word = wte + (size_t)tokens[row] * C;  // wte[token, :]
            const float* place = wpe + (size_t)t * C;           // wpe[t, :]
            for (int c = 0; c < C; c++) {
                out[row * C + c] = word[c] + place[c];
            }
        }
    }
}
