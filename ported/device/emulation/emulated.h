// CUDA C++ for a plain C++ compiler; stands before every version file on the emulated device.
#pragma once
#define EMULATED 1
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector_functions.h>
#include <vector_types.h>
#include <cuda_bf16.h>
#include "runtime.h"

// The language's words. __forceinline__ must not be an attribute: such functions are also passed
// as pointers, which g++ refuses at -O1. g++ takes alignas only in front of a declaration, CUDA
// also after __shared__; the attribute may stand anywhere.
#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define alignas(...) __attribute__((aligned(__VA_ARGS__)))

// Each shared variable has a section of its own; shared.ld gathers them, so that the runtime can
// fill and shadow a block's shared memory. (One section for all is refused by g++ where templates
// and plain functions both have some.)
#define EMULATED_TEXT_(x) #x
#define EMULATED_TEXT(x) EMULATED_TEXT_(x)
#define __shared__ static __attribute__((section(".emulated_shared." EMULATED_TEXT(__COUNTER__))))
#define DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(emulated::state.dynamic_shared)

#define threadIdx (emulated::state.self->index)
#define blockIdx (emulated::state.block_index)
#define blockDim (emulated::state.block_size)
#define gridDim (emulated::state.grid_size)
static constexpr int warpSize = 32;

// A kernel's entry point for Python. The section's ends are this library's own.
extern "C" {
extern char emulated_shared_begin[] __attribute__((weak, visibility("hidden")));
extern char emulated_shared_end[] __attribute__((weak, visibility("hidden")));
}
#define EMULATED_KERNEL(name)                                                                  \
    extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) int launch_##name( \
        const emulated::Request* request, void** arguments) {                                   \
        return emulated::start(&name, request, arguments, emulated_shared_begin,                \
                               emulated_shared_end);                                            \
    }
#define EMULATED_INLINE __attribute__((always_inline)) inline
#include "emulated_threads.h"
#include "emulated_memory.h"
#include "emulated_numbers.h"
#include "emulated_bfloat16.h"
