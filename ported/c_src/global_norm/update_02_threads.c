// Two stages: the segments in CHUNKS runs of equal length, a thread each; then the sum of the runs.
// Against 01: the order of summation depends on CHUNKS alone, never on the number of threads.
// A run leaves its norm, not its square: that always fits a float.
//
//@ dtype   all=float32
//@ tune    CHUNKS 256
//@ scratch part F32["CHUNKS"]
//@ claims  deterministic
#include <math.h>
#include <stddef.h>

void global_norm_update(float* norm, float* scale, float* part, const float* dweight, int S, int E,
                        double max_norm, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < CHUNKS; k++) {
        size_t start = (size_t)S * k / CHUNKS * E, end = (size_t)S * (k + 1) / CHUNKS * E;
        double sum = 0.0;
        for (size_t i = start; i < end; i++) {
            sum += (double)dweight[i] * dweight[i];
        }
        part[k] = sqrt(sum);
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
