// The twin of every function of cuda_src/ptx.cuh that nvcc gets as inline PTX: the same signatures;
// what they do is said there.
#pragma once

EMULATED_INLINE unsigned shared_address(const void* p) { return (unsigned)(size_t)p; }

EMULATED_INLINE void copy_async_16(void* to, const void* from, bool valid = true) {
    emulated::copy_async(to, from, 16, valid ? 16 : 0);
}
EMULATED_INLINE void copy_async_commit() { emulated::copy_async_commit(); }
template <int left> EMULATED_INLINE void copy_async_wait() { emulated::copy_async_wait(left); }

EMULATED_INLINE void load_matrix_4(unsigned (&r)[4], const void* row) {
    emulated::load_matrix(r, 4, false, row);
}
EMULATED_INLINE void load_matrix_4_transposed(unsigned (&r)[4], const void* row) {
    emulated::load_matrix(r, 4, true, row);
}
EMULATED_INLINE void load_matrix_2(unsigned (&r)[2], const void* row) {
    emulated::load_matrix(r, 2, false, row);
}
EMULATED_INLINE void load_matrix_2_transposed(unsigned (&r)[2], const void* row) {
    emulated::load_matrix(r, 2, true, row);
}

EMULATED_INLINE void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulated::multiply(d, a, b);
}
EMULATED_INLINE unsigned pack_bfloat16(float low, float high) {
    return emulated::bits<unsigned>(__floats2bfloat162_rn(low, high));
}
