// What kernels on the emulated device call: the runtime's side of threads, barriers, warps, memory.
//
// Every CUDA thread of a block is a fiber, blocks run one after the other, all on one thread of the
// machine. A fiber gives way only where it waits for others: barriers, warp operations, its end.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector_types.h>

namespace emulated {

struct Self {  // what the running thread knows of itself
    uint3 index;
    unsigned linear, lane, warp;
};
struct State {
    Self* self;
    uint3 block_index;
    dim3 block_size, grid_size;
    unsigned char* dynamic_shared;
};
extern State state;

struct Variable {  // of static shared memory: where it lies in it
    uint64_t begin, bytes;
};
// One launch as Python asks for it; mirrored by ctypes in ported/device/emulated.py.
struct Request {
    uint64_t grid, block, dynamic_bytes;
    int32_t checks;    // 0 none, 1 addresses, 2 addresses and races
    int32_t schedule;  // 0 fifo, 1 reverse, 2 random, 3 warps (one runs as far ahead as it can)
    uint64_t seed;
    double limit;  // seconds of processor time
    uint64_t static_bytes;
    const Variable* variables;
    int32_t variable_count;
};

enum class Vote { count, all, any };
enum class Reduction { add, min, max, min_signed, max_signed, bit_and, bit_or, bit_xor, ballot };
enum class Access { read, write, atomic };

int barrier(bool predicate, Vote vote, int line);
void warp_barrier(unsigned mask);
uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source);
unsigned reduce(unsigned mask, unsigned value, Reduction reduction);
unsigned match(unsigned mask, uint64_t bits, bool all);
void fence();
// Accesses that no instrumentation sees; `place` is where in the kernel.
void touch(const volatile void* at, size_t bytes, Access access, void* place);
void copy_async(void* to, const void* from, unsigned bytes, unsigned given);
void copy_async_commit();
void copy_async_wait(int left);
void load_matrix(unsigned* registers, int count, bool transposed, const void* row);
void multiply(float* d, const unsigned* a, const unsigned* b);
[[noreturn]] void fault(const char* kind, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
int launch(void (*body)(void*), void* context, const Request* request, char* shared_begin,
           char* shared_end);

// Kernels' functions that do by hand what instrumentation would else see, or that name their
// caller's place.
#define EMULATED_APART __attribute__((noinline, no_sanitize("thread")))

template <class... A> struct Call {
    void (*function)(A...);
    void** arguments;
    template <size_t... I> EMULATED_APART void make(std::index_sequence<I...>) {
        function(*static_cast<A*>(arguments[I])...);
    }
    static EMULATED_APART void body(void* call) {
        static_cast<Call*>(call)->make(std::index_sequence_for<A...>{});
    }
};
template <class... A>
EMULATED_APART int start(void (*function)(A...), const Request* request, void** arguments,
                         char* shared_begin, char* shared_end) {
    Call<A...> call{function, arguments};
    return launch(Call<A...>::body, &call, request, shared_begin, shared_end);
}

}  // namespace emulated
