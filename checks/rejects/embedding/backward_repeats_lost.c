// A token that came before in the batch is skipped: only its first place counts.
//
//@ reject values: repeated tokens do not add
//@ dtype  all=float32
//@ claims deterministic
#include <stddef.h>

void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens,
                        int B, int T, int C) {
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            size_t row = (size_t)b * T + t;
            const float* d = dout + row * C;               // dout[b, t, :]
            float* dword = dwte + (size_t)tokens[row] * C;  // dwte[token, :]
            int repeated = 0;
            for (size_t i = 0; i < row; i++) {
                repeated |= tokens[i] == tokens[row];
            }
            float* dplace = dwpe + (size_t)t * C;           // dwpe[t, :]
            for (int c = 0; c < C; c++) {
                dword[c] += repeated ? 0.0f : d[c];
                dplace[c] += d[c];
            }
        }
    }
}
