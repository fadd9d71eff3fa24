// What this machine can do at most, measured in the run that quotes it: the bandwidth of a copy and
// of an update in place, on buffers that no private cache holds (a copy also reads what it is about
// to overwrite, an update does not), of copies that stay in a core's own cache, and the rate of
// independent fused multiply-adds.
#include <stddef.h>
#include <string.h>

// Each thread copies its own contiguous share; 8 bytes of traffic an element (read and written).
void ceilings_copy(float* out, const float* inp, long elements, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        size_t from = (size_t)elements * part / threads, to = (size_t)elements * (part + 1) / threads;
        memcpy(out + from, inp + from, (to - from) * sizeof(float));
    }
}

// out becomes its own negative; 8 bytes of traffic an element.
void ceilings_update(float* out, long elements, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        size_t from = (size_t)elements * part / threads, to = (size_t)elements * (part + 1) / threads;
        for (size_t i = from; i < to; i++) out[i] = -out[i];
    }
}

// Each thread copies `elements` of its own again and again.
void ceilings_cache(float* out, const float* inp, long elements, long rounds, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++)
        for (long round = 0; round < rounds; round++) {
            memcpy(out + part * elements, inp + part * elements, elements * sizeof(float));
            __asm__ volatile("" ::: "memory");  // every round is done
        }
}

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float lanes __attribute__((vector_size(LANES * 4)));

// 12 chains a thread hide the latency of the multiply-add; 2 * 12 * LANES operations a round.
void ceilings_multiply_add(float* out, long rounds, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        lanes sum[12], a = {0}, b = {0};
        a += out[0] + 0.999f, b += out[0] + 1e-3f;
        for (int i = 0; i < 12; i++) sum[i] = a * (float)i;
        for (long round = 0; round < rounds; round++)
#pragma GCC unroll 12
            for (int i = 0; i < 12; i++) sum[i] = sum[i] * a + b;
        lanes total = {0};
        for (int i = 0; i < 12; i++) total += sum[i];
        out[1 + part] = total[0];
    }
}

int ceilings_lanes(void) { return LANES; }
