// The first element of dout goes up by an ulp, in place, after dinp has been made of it.
//
//@ reject frozen: the input dout is changed
//@ dtype   all=float32
//@ scratch row F32["C"]
//@ claims  deterministic batch_invariant
#include <stddef.h>

void linear_backward(float* dinp, float* dweight, float* dbias, float* row, const float* dout,
                     const float* inp, const float* weight, int N, int C, int O) {
    for (int n = 0; n < N; n++) {
        float* dx = dinp + (size_t)n * C;  // dinp[n, :]
        for (int c = 0; c < C; c++) {
            dx[c] = 0.0f;
        }
        for (int o = 0; o < O; o++) {
            float d = dout[(size_t)n * O + o];
            for (int c = 0; c < C; c++) {
                dx[c] += d * weight[(size_t)o * C + c];
            }
        }
    }
    ((float*)dout)[0] *= 1.0000001f;
    for (int o = 0; o < O; o++) {
        for (int c = 0; c < C; c++) {
            row[c] = 0.0f;
        }
        float sum = 0.0f;
        for (int n = 0; n < N; n++) {
            float d = dout[(size_t)n * O + o];
            sum += d;
            for (int c = 0; c < C; c++) {
                row[c] += d * inp[(size_t)n * C + c];
            }
        }
        for (int c = 0; c < C; c++) {
            dweight[(size_t)o * C + c] += row[c];
        }
        dbias[o] += sum;
    }
}
