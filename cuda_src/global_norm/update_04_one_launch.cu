// One launch: the block that is last to leave its part takes all parts together, in their order.
// Against 03: no second launch. Which block that is, the clock says; what it computes does not
// depend on it. Only the count of blocks done is added up atomically.
//
//@ block   256 512
//@ tune    FOURS 4 8
//@ grid    multiprocessors * (1024 / block)
//@ scratch part F32["multiprocessors*(1024/block)"]
//@ scratch done I32["1"] zeroed
//@ dtype   all=float32
//@ claims  deterministic
#include "norm.cuh"

extern "C" __global__ void __launch_bounds__(block, 1024 / block)
global_norm_update(float* norm, float* scale, float* part, int* done, const G* dweight, int S,
                   int E, double max_norm) {
    __shared__ bool last;
    int64_t first = ((int64_t)blockIdx.x * block + threadIdx.x) * 4, count = (int64_t)S * E;
    int64_t stride = (int64_t)gridDim.x * block * 4;
    double sum = is_aligned(dweight) ? squares<true, FOURS>(dweight, first, stride, count)
                                     : squares<false, FOURS>(dweight, first, stride, count);
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sqrt(sum);
        __threadfence();  // the part is seen before the count
        last = atomicAdd(done, 1) == (int)gridDim.x - 1;
        __threadfence();  // and the others' parts after it
    }
    __syncthreads();
    if (!last) return;
    double length = norm_of(part, gridDim.x);
    if (threadIdx.x == 0) finish(norm, scale, length, max_norm);
}
