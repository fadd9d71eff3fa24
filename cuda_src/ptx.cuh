// Tensor cores and asynchronous copies, in PTX. The emulated device has a twin of each function
// (the same signatures in C++), so that kernels written with them are proved on any machine.
#pragma once
#include "common.cuh"

#ifdef EMULATED
#include "emulated_ptx.h"
#else

__device__ inline unsigned shared_address(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// 16 bytes from global to shared memory, past the registers; `valid` false writes zeros instead.
__device__ inline void copy_async_16(void* to, const void* from, bool valid = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
                 :: "r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ inline void copy_async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Waits until at most `left` of this thread's groups are on their way.
template <int left> __device__ inline void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" :: "n"(left) : "memory");
}

// Four (two) 8 x 8 matrices of 16-bit numbers from shared memory; lane l names row l % 8 of matrix
// l / 8. Lane 4 r + c then holds elements 2 c and 2 c + 1 of row r (of column r: _transposed).
__device__ inline void load_matrix_4(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)));
}
__device__ inline void load_matrix_4_transposed(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)));
}
__device__ inline void load_matrix_2(unsigned (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)));
}
__device__ inline void load_matrix_2_transposed(unsigned (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)));
}

// d += a b for a 16 x 16, b 16 x 8 (column major) of bfloat16, d 16 x 8 of float32. Lane l, with
// g = l / 4 and q = l % 4: a[0..3] are (row g, columns 2q..), (g + 8, 2q..), (g, 2q + 8..),
// (g + 8, 2q + 8..), two numbers each; b[0..1] rows 2q.. and 2q + 8.. of column g;
// d[0..1] row g, d[2..3] row g + 8, columns 2q and 2q + 1 (PTX ISA, mma.m16n8k16).
__device__ inline void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Two floats as a pair of bfloat16, the first one in the lower half.
__device__ inline unsigned pack_bfloat16(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<unsigned&>(pair);
}
#endif
