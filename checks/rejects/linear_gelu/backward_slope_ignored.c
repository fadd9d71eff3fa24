// The gradient passes the activation as if it were not there.
//
//@ reject gate: the slope of gelu is missing
//@ dtype   all=float32
//@ scratch dpre F32["N O"]
//@ scratch row F32["C"]
//@ claims  deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void linear_gelu_backward(float* dinp, float* dweight, float* dbias, float* dpre, float* row,
                          const float* dout, const float* pre, const float* inp,
                          const float* weight, int N, int C, int O) {
    for (size_t i = 0; i < (size_t)N * O; i++) {
        dpre[i] = pre[i] > 0.0f ? dout[i] : 0.0f;
    }
    for (int n = 0; n < N; n++) {
        float* dx = dinp + (size_t)n * C;  // dinp[n, :]
        for (int c = 0; c < C; c++) {
            dx[c] = 0.0f;
        }
        for (int o = 0; o < O; o++) {
            float d = dpre[(size_t)n * O + o];
            for (int c = 0; c < C; c++) {
                dx[c] += d * weight[(size_t)o * C + c];
            }
        }
    }
    for (int o = 0; o < O; o++) {
        for (int c = 0; c < C; c++) {
            row[c] = 0.0f;
        }
        float sum = 0.0f;
        for (int n = 0; n < N; n++) {
            float d = dpre[(size_t)n * O + o];
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
