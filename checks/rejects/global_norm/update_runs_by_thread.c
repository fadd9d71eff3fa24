// A run for each thread, its length so far rounded to a float after each segment: other numbers of
// threads, other roundings.
//
//@ reject claims: the result depends on the number of threads
//@ dtype   all=float32
//@ scratch part F32["threads"]
//@ claims  deterministic
#include <math.h>
#include <stddef.h>

void global_norm_update(float* norm, float* scale, float* part, const float* dweight, int S, int E,
                        double max_norm, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int k = 0; k < threads; k++) {
        size_t start = (size_t)S * k / threads * E, end = (size_t)S * (k + 1) / threads * E;
        part[k] = 0.0f;
        for (size_t segment = start; segment < end; segment += E) {
            double sum = (double)part[k] * part[k];
            for (int i = 0; i < E; i++) {
                sum += (double)dweight[segment + i] * dweight[segment + i];
            }
            part[k] = sqrt(sum);
        }
    }
    double sum = 0.0;
    for (int k = 0; k < threads; k++) {
        sum += (double)part[k] * part[k];
    }
    double length = sqrt(sum);
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;  // a NaN stays a NaN
}
