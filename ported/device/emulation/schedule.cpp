// Fibers, and which of them goes on.
#include "internal.h"
#include <cstdlib>

namespace emulated {
namespace {

std::vector<Thread*> ready;  // fifo takes them from `first`, reverse from the end
size_t first;
unsigned ready_lanes[MOST_WARPS];  // the schedule `warps` keeps them so, warps by rank
unsigned warp_order[MOST_WARPS];
uint64_t random_state;

}  // namespace

void seed_random(uint64_t seed) { random_state = seed * 2654435761u + 88172645463325252ull; }

uint32_t random_number() {  // xorshift64 (Marsaglia, 2003)
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>(random_state >> 16);
}

// ---- switching
#if defined(__x86_64__) && !defined(EMULATED_PORTABLE)
// The registers that a call keeps go to the old stack, and come from the new one.
extern "C" void emulated_switch(void** from, void* to);
asm(".text\n.p2align 4\n.type emulated_switch,@function\nemulated_switch:\n"
    "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp,(%rdi); mov %rsi,%rsp\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\nret\n"
    ".size emulated_switch,.-emulated_switch\n");
static void switch_context(Thread& from, Thread& to) { emulated_switch(&from.context, to.context); }
void prepare_fiber(Thread& thread, void (*entry)()) {
    // Tops of stacks lie apart by more than their size, or they would share few cache lines.
    size_t colour = thread.linear * 320 % 8192;
    auto top = reinterpret_cast<size_t>(thread.stack + STACK - 64 - colour) & ~size_t(15);
    void** at = reinterpret_cast<void**>(top);
    *--at = nullptr;
    *--at = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--at = nullptr;
    thread.context = at;
}
#else
static void switch_context(Thread& from, Thread& to) { swapcontext(&from.context, &to.context); }
void prepare_fiber(Thread& thread, void (*entry)()) {
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack;
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, entry, 0);
}
#endif

void switch_to(Thread& to) {
    Thread& from = self();
    to.status = Thread::running;
    state.self = &to;
    switch_context(from, to);
}

// ---- the next one
namespace {

// The first warp of the block's order of which a lane can go on; any such lane of it.
Thread* next_of_warps() {
    for (unsigned rank = 0; rank < (block_threads + 31) / 32; rank++) {
        unsigned warp = warp_order[rank], lanes = ready_lanes[warp];
        if (!lanes) continue;
        unsigned turn = random_number() % 32;
        unsigned turned = lanes >> turn | lanes << (32 - turn) % 32;
        unsigned lane = (__builtin_ctz(turned) + turn) % 32;
        ready_lanes[warp] &= ~(1u << lane);
        return &threads[32 * warp + lane];
    }
    return nullptr;
}

Thread* next_ready() {
    if (request.schedule == warps) return next_of_warps();
    size_t waiting = ready.size() - first;
    if (!waiting) return nullptr;
    if (request.schedule == reverse) {
        Thread* last = ready.back();
        ready.pop_back();
        return last;
    }
    if (request.schedule == random_order)
        std::swap(ready[first], ready[first + random_number() % waiting]);
    Thread* next = ready[first++];
    if (first == ready.size()) ready.clear(), first = 0;
    return next;
}

}  // namespace

void run_another() {
    look_at_clock();
    Thread* next = next_ready();
    if (next == &self()) next->status = Thread::running;
    else switch_to(next ? *next : outside);
}

void wake(Thread& thread) {
    thread.status = Thread::ready;
    if (request.schedule == warps) ready_lanes[thread.warp] |= 1u << thread.lane;
    else ready.push_back(&thread);
}

void park(const char* what, void* frame) {
    self().status = Thread::waiting;
    self().waits_for = what;
    self().waits_frame = frame;
    run_another();
}

void prepare_schedule() {
    ready.clear();
    first = 0;
    unsigned count = (block_threads + 31) / 32;
    for (unsigned i = 0; i < count; i++) {
        ready_lanes[i] = 0;
        warp_order[i] = i;
    }
    for (unsigned i = count; request.schedule == warps && i > 1; i--)
        std::swap(warp_order[i - 1], warp_order[random_number() % i]);
}

void run_block_threads() {
    state.self = &outside;
    switch_to(*next_ready());
}

void end_fiber() {
    look_at_clock();
    Thread* next = next_ready();
    switch_to(next ? *next : outside);
    std::abort();
}

void leave_for_good() {
    self().status = Thread::done;
    state.self = &outside;
    Thread abandoned;
    switch_context(abandoned, outside);
    std::abort();
}

}  // namespace emulated
