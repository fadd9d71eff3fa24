// A run is walked at four places at once: the memory keeps several lines on their way for each
// place and prefetches along each, where one place alone leaves it half idle.
// Against 03: four streams, each with two vectors of partial sums of its own.
//
//@ dtype   all=float32
//@ tune    CHUNKS 256
//@ scratch part F32["CHUNKS"]
//@ claims  deterministic
#include "common.h"

#define STREAMS 4
typedef float half_lanes __attribute__((vector_size(2 * LANES)));
typedef double double_lanes __attribute__((vector_size(4 * LANES)));

INLINE double_lanes squares(lanes x, double_lanes sum) {
    half_lanes half[2];
    memcpy(half, &x, sizeof x);
    double_lanes low = __builtin_convertvector(half[0], double_lanes);
    double_lanes high = __builtin_convertvector(half[1], double_lanes);
    return sum + low * low + high * high;
}

static double sum_of_squares(const float* x, ptrdiff_t size) {
    double_lanes sum[STREAMS] = {{0}};
    ptrdiff_t stride = size / (STREAMS * LANES) * LANES, i = 0;  // stream j starts at j * stride
    for (; i < stride; i += LANES) {
        for (int j = 0; j < STREAMS; j++) {
            sum[j] = squares(load(x + j * stride + i, LANES), sum[j]);
        }
    }
    for (i = STREAMS * stride; i < size; i += LANES) {
        sum[0] = squares(load(x + i, size - i), sum[0]);
    }
    double_lanes all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    double total = 0.0;
    for (int k = 0; k < LANES / 2; k++) {
        total += all[k];
    }
    return total;
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
