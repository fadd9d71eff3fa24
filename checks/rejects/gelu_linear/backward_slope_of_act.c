// The slope is taken at the activation instead of at what went into it.
//
//@ reject gate: the slope is taken at act
//@ dtype   all=float32
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

void gelu_linear_backward(float* dpre, float* dweight, float* dbias, float* row,
                          const float* dout, const float* pre, const float* act,
                          const float* weight, int N, int C, int O) {
    (void)pre;
    for (int n = 0; n < N; n++) {
        float* dx = dpre + (size_t)n * C;  // dpre[n, :]
        for (int c = 0; c < C; c++) {
            dx[c] = 0.0f;
        }
        for (int o = 0; o < O; o++) {
            float d = dout[(size_t)n * O + o];
            for (int c = 0; c < C; c++) {
                dx[c] += d * weight[(size_t)o * C + c];
            }
        }
        for (int c = 0; c < C; c++) {
            dx[c] *= gelu_slope(act[(size_t)n * C + c]);
        }
    }
    for (int o = 0; o < O; o++) {
        for (int c = 0; c < C; c++) {
            row[c] = 0.0f;
        }
        float sum = 0.0f;
        for (int n = 0; n < N; n++) {
            float d = dout[(size_t)n * O + o];
            sum += d;
            for (int c = 0; c < C; c++) {
                row[c] += d * act[(size_t)n * C + c];
            }
        }
        for (int c = 0; c < C; c++) {
            dweight[(size_t)o * C + c] += row[c];
        }
        dbias[o] += sum;
    }
}
