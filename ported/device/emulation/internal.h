// What the parts of the runtime know of each other: fibers, schedule, faults, checks, copies.
#pragma once
#include "runtime.h"
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#if !defined(__x86_64__) || defined(EMULATED_PORTABLE)
#include <ucontext.h>
#endif

namespace emulated {

constexpr unsigned MOST_THREADS = 1024;      // of a block
constexpr unsigned MOST_WARPS = MOST_THREADS / 32;
constexpr size_t STACK = 256 << 10;          // bytes of a fiber, the lowest page a guard
constexpr size_t MOST_STATIC = 48 << 10;     // static shared memory of a block
constexpr size_t MOST_SHARED = 232448;       // all shared memory of a block, on compute 9.0
constexpr int MOST_PLACES = 8;               // return addresses kept of a call chain

#if defined(__x86_64__) && !defined(EMULATED_PORTABLE)
using Context = void*;  // the saved stack pointer
#else
using Context = ucontext_t;
#endif

struct Copy {  // an asynchronous copy on its way
    void* to;
    const void* from;
    unsigned bytes, given;
    int group;
    void* place;
    unsigned char held[16];  // what stood at `from` when it was asked for
};

struct Thread : Self {
    enum : uint8_t { ready, running, waiting, done } status;
    bool meets;  // waits in a warp operation: which, of which lanes, with what
    int operation;
    unsigned mask;
    void* argument;
    const char* waits_for;
    void* waits_frame;
    Context context;
    unsigned char* stack;
    unsigned fenced;  // the block's epoch at its last fence
    // What it has seen of its warp: lane l's accesses up to l's clock seen[l].
    unsigned clock, seen[32];
    std::vector<Copy> copies;
    int copy_group;
};

// ---- the block that runs (runtime.cpp), its threads and their schedule (schedule.cpp)
enum Schedule { fifo, reverse, random_order, warps };
extern Thread threads[MOST_THREADS];
extern Thread outside;      // the launch itself
extern unsigned block_threads, live_threads, block_number;
extern unsigned epoch;      // counts the block's barriers
extern char *image_begin, *image_end;  // the kernel's library
extern Request request;
extern unsigned meeting_lanes[MOST_WARPS];   // of each warp: how many wait in a warp operation
extern unsigned returned_lanes[MOST_WARPS];  // which have returned
inline Thread& self() { return *static_cast<Thread*>(state.self); }
inline bool in_kernel() { return state.self && state.self != &outside; }
uint32_t random_number();
void seed_random(uint64_t seed);
void prepare_schedule();
void prepare_fiber(Thread& thread, void (*entry)());
void run_block_threads();  // until none can go on
void run_another();
void wake(Thread& thread);
void park(const char* what, void* frame);  // until another thread wakes this one
void end_fiber() __attribute__((noreturn));
void leave_for_good() __attribute__((noreturn));  // back to the launch

// ---- faults (faults.cpp)
struct Fault {
    char kind[24];
    char text[600];
    uint32_t block, thread, other_block, other_thread;
    int32_t places, other_places;
    void* image;  // where the kernel's library begins
    void* at[MOST_PLACES];
    void* other[MOST_PLACES];
};
extern Fault last_fault;
extern volatile bool expired;  // the launch has used up its time
void forget_fault();
int walk(void* frame, const Thread& thread, void** places);
// A fault at `place` (null: found by walking the stack), against what another thread did.
[[noreturn]] void fault_against(const char* kind, void* place, unsigned block, unsigned thread,
                                void* const* other, int other_places, const char* format, ...)
    __attribute__((format(printf, 7, 8)));
void fault_of_launch(const char* kind, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
void expire() __attribute__((noreturn));
inline void look_at_clock() {
    if (__builtin_expect(expired, false)) expire();
}
struct Guard {  // signals and clock of one launch
    explicit Guard(double limit);
    ~Guard();
};

// ---- checks (checks.cpp)
void checks_begin_launch(char* shared_begin, char* shared_end);
void checks_begin_block();
void checks_barrier();  // all live threads have met
void settle();          // finishes a write whose value is in doubt
void landing(const Copy& copy, bool arrived);
void find_runtime(uint8_t*& begin, uint8_t*& end);  // where this library lies in memory

}  // namespace emulated
