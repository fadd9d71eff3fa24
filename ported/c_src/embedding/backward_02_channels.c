// Each thread owns a share of the channels and walks all tokens in order: no two threads ever meet
// in an element, and an element gets its terms in the same order however many threads there are.
// Against 01: parallel, and bitwise the same result.
//
//@ dtype  all=float32
//@ claims deterministic
#include <stddef.h>

void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens,
                        int B, int T, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < threads; k++) {
        int start = (size_t)C * k / threads, end = (size_t)C * (k + 1) / threads;
        for (int b = 0; b < B; b++) {
            for (int t = 0; t < T; t++) {
                size_t row = (size_t)b * T + t;
                const float* d = dout + row * C;               // dout[b, t, :]
                float* dword = dwte + (size_t)tokens[row] * C;  // dwte[token, :]
                float* dplace = dwpe + (size_t)t * C;           // dwpe[t, :]
                #pragma omp simd
                for (int c = start; c < end; c++) {
                    dword[c] += d[c];
                    dplace[c] += d[c];
                }
            }
        }
    }
}
