// Loads that fault unless the address is a multiple of 64, and nothing in `needs` says so.
//
//@ reject pointers: faults where a pointer is not aligned to 64 bytes
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

typedef float lanes __attribute__((vector_size(64)));

void residual_forward(float* out, const float* inp1, const float* inp2, int N, int C) {
    size_t size = (size_t)N * C, i = 0;
    for (; i + 16 <= size; i += 16) {
        *(lanes*)(out + i) = *(const lanes*)(inp1 + i) + *(const lanes*)(inp2 + i);
    }
    for (; i < size; i++) {
        out[i] = inp1[i] + inp2[i];
    }
}
