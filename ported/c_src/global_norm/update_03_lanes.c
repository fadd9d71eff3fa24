// A run goes sixteen elements at a time, squared and summed as doubles in sixteen partial sums.
// Against 02: explicit vectors, since the compiler may not reorder a sum; memory now sets the pace.
//
//@ dtype   all=float32
//@ tune    CHUNKS 256
//@ scratch part F32["CHUNKS"]
//@ claims  deterministic
#include "common.h"

typedef float half_lanes __attribute__((vector_size(2 * LANES)));
typedef double double_lanes __attribute__((vector_size(4 * LANES)));

static double sum_of_squares(const float* x, ptrdiff_t size) {
    double_lanes low = {0}, high = {0};
    for (ptrdiff_t i = 0; i < size; i += LANES) {
        lanes both = load(x + i, size - i);
        half_lanes half[2];
        memcpy(half, &both, sizeof both);
        double_lanes a = __builtin_convertvector(half[0], double_lanes);
        double_lanes b = __builtin_convertvector(half[1], double_lanes);
        low += a * a;
        high += b * b;
    }
    low += high;
    double sum = 0.0;
    for (int i = 0; i < LANES / 2; i++) {
        sum += low[i];
    }
    return sum;
}

void global_norm_update(float* norm, float* scale, float* part, const float* dweight, int S, int E,
                        double max_norm, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < CHUNKS; k++) {
        size_t start = (size_t)S * k / CHUNKS * E, end = (size_t)S * (k + 1) / CHUNKS * E;
        part[k] = sqrt(sum_of_squares(dweight + start, end - start));
    }
    double sum = 0.0;
    for (int k = 0; k < CHUNKS; k++) {
        sum += (double)part[k] * part[k];
    }
    double length = sqrt(sum);
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;  // a NaN stays a NaN
}
