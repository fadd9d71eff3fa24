// Tokens pass through fifteen bits, which GPT-2's vocabulary does not fit in.
//
//@ reject shapes: tokens above 32767 fall on others
//@ dtype  all=float32
//@ claims deterministic
#include <stddef.h>

void embedding_backward(float* dwte, float* dwpe, const float* dout, const int* tokens,
                        int B, int T, int C) {
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            size_t row = (size_t)b * T + t;
            const float* d = dout + row * C;               // dout[b, t, :]
            float* dword = dwte + (size_t)(tokens[row] & 0x7fff) * C;  // dwte[token, :]
            float* dplace = dwpe + (size_t)t * C;           // dwpe[t, :]
            for (int c = 0; c < C; c++) {
                dword[c] += d[c];
                dplace[c] += d[c];
            }
        }
    }
}
