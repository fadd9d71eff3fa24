// The definition in two steps: dpre = dout * gelu'(pre), then linear's backward from dpre.
// dpre stands whole in scratch, a row of dweight is gathered in `row` and added once.
//
//@ dtype   all=float32
//@ scratch dpre F32["N O"]
//@ scratch row F32["C"]
//@ claims  deterministic batch_invariant
#include <math.h>
#include <stddef.h>

static float gelu_slope(float x) {
    const float k = 0.7978845608028654f;       // sqrt(2/pi)
    float y = fminf(fmaxf(x, -20.0f), 20.0f);  // x^2 = inf must not meet 1 - t^2 = 0
    float t = tanhf(k * (y + 0.044715f * y * y * y));
    float du = k * (1.0f + 3.0f * 0.044715f * y * y);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}

void linear_gelu_backward(float* dinp, float* dweight, float* dbias, float* dpre, float* row,
                          const float* dout, const float* pre, const float* inp,
                          const float* weight, int N, int C, int O) {
    for (size_t i = 0; i < (size_t)N * O; i++) {
        dpre[i] = dout[i] * gelu_slope(pre[i]);
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
