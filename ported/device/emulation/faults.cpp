// Faults: what went wrong and where, illegal addresses by signal, launches that never end.
#include "internal.h"
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

namespace emulated {

Fault last_fault;
volatile bool expired;

namespace {

const int CLOCK_SIGNAL = SIGRTMIN + 7;
const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
void* interrupted_at;     // the instruction and frame of a signal, where one is being handled
void* interrupted_frame;
volatile bool ending;     // a fault is being described: the clock has no say any more

bool in_image(void* place) { return place >= image_begin && place < image_end; }

void describe(const char* kind, void* place, const char* format, va_list words) {
    ending = true;
    std::snprintf(last_fault.kind, sizeof last_fault.kind, "%s", kind);
    std::vsnprintf(last_fault.text, sizeof last_fault.text, format, words);
    last_fault.places = 0;
    last_fault.image = image_begin;
    if (!in_kernel()) return;
    last_fault.block = block_number;
    last_fault.thread = self().linear;
    void* frame = interrupted_frame ? interrupted_frame : __builtin_frame_address(0);
    if (self().status == Thread::waiting) frame = self().waits_frame;
    if (interrupted_at && in_image(interrupted_at))
        last_fault.at[last_fault.places++] = static_cast<char*>(interrupted_at) + 1;
    void* found[MOST_PLACES];
    int count = walk(frame, self(), found);
    for (int i = 0; i < count && last_fault.places < MOST_PLACES; i++)
        if (i || found[i] != place) last_fault.at[last_fault.places++] = found[i];
    if (place) {  // an instrumented access: the innermost place is given
        std::memmove(last_fault.at + 1, last_fault.at, sizeof(void*) * (MOST_PLACES - 1));
        last_fault.at[0] = place;
        if (last_fault.places < MOST_PLACES) last_fault.places++;
    }
}

}  // namespace

void forget_fault() { last_fault = Fault(); }

// Return addresses inside the kernel's library, from `frame` outwards. Frames are chained: each
// begins with the address of its caller's, then the return address.
int walk(void* frame, const Thread& thread, void** places) {
    int found = 0;
    auto* at = static_cast<void**>(frame);
    auto* low = reinterpret_cast<void**>(thread.stack);
    auto* high = reinterpret_cast<void**>(thread.stack + STACK - 2 * sizeof(void*));
    while (at >= low && at < high && found < MOST_PLACES) {
        if (in_image(at[1])) places[found++] = at[1];
        auto* next = static_cast<void**>(at[0]);
        if (next <= at) break;
        at = next;
    }
    return found;
}

void fault(const char* kind, const char* format, ...) {
    va_list words;
    va_start(words, format);
    describe(kind, nullptr, format, words);
    va_end(words);
    leave_for_good();
}

void fault_against(const char* kind, void* place, unsigned block, unsigned thread,
                   void* const* other, int other_places, const char* format, ...) {
    last_fault.other_block = block;
    last_fault.other_thread = thread;
    last_fault.other_places = other_places;
    std::memcpy(last_fault.other, other, other_places * sizeof(void*));
    va_list words;
    va_start(words, format);
    describe(kind, place, format, words);
    va_end(words);
    leave_for_good();
}

void fault_of_launch(const char* kind, const char* format, ...) {
    va_list words;
    va_start(words, format);
    describe(kind, nullptr, format, words);
    va_end(words);
}

void expire() {
    expired = false;
    fault("hang", "still running after %g seconds of processor time, at {at}", request.limit);
}

namespace {

struct sigaction before[4], clock_before;
stack_t stack_before;
timer_t timer;

// The instruction and the frame that a signal interrupted.
void note_interruption(void* context) {
#if defined(__x86_64__)
    auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    interrupted_at = reinterpret_cast<void*>(registers[REG_RIP]);
    interrupted_frame = reinterpret_cast<void*>(registers[REG_RBP]);
#elif defined(__aarch64__)
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext;
    interrupted_at = reinterpret_cast<void*>(registers.pc);
    interrupted_frame = reinterpret_cast<void*>(registers.regs[29]);
#endif
}

void unblock(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void on_error(int signal, siginfo_t* info, void* context) {
    if (!in_kernel()) {  // not ours
        std::signal(signal, SIG_DFL);
        raise(signal);
        return;
    }
    note_interruption(context);
    unblock(signal);
    auto* address = static_cast<unsigned char*>(info->si_addr);
    if (signal == SIGFPE) fault("arithmetic", "an integer division by zero at {at}");
    if (signal == SIGILL) fault("trap", "an illegal instruction at {at}");
    if (address >= self().stack && address < self().stack + 4096)
        fault("stack", "the thread's stack overflows at {at}");
    fault("out_of_bounds", "an access to the illegal address %p at {at} (the flavour `addresses` "
          "says more)", static_cast<void*>(address));
}

// The runtime looks at the clock by itself, and so does every checked access. Where neither happens
// before the next tick, the kernel is left from here: safe in its own code, but not in a library's.
void on_clock(int signal, siginfo_t*, void* context) {
    if (ending) return;
    bool again = expired;
    expired = true;
    if (!again || !in_kernel()) return;
    note_interruption(context);
    if (in_image(interrupted_at)) {
        ending = true;
        unblock(signal);
        expire();
    }
    interrupted_at = interrupted_frame = nullptr;
}

}  // namespace

Guard::Guard(double limit) {
    static char room[65536];
    interrupted_at = interrupted_frame = nullptr;
    expired = ending = false;
    stack_t stack{};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, &stack_before);
    struct sigaction action{};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    action.sa_sigaction = on_error;
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &action, &before[i]);
    action.sa_sigaction = on_clock;
    sigaction(CLOCK_SIGNAL, &action, &clock_before);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = CLOCK_SIGNAL;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(limit);
    when.it_value.tv_nsec = static_cast<long>((limit - when.it_value.tv_sec) * 1e9) + 1;
    when.it_interval.tv_nsec = 5'000'000;
    timer_settime(timer, 0, &when, nullptr);
}

Guard::~Guard() {
    timer_delete(timer);
    sigaction(CLOCK_SIGNAL, &clock_before, nullptr);
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
    interrupted_at = interrupted_frame = nullptr;
}

}  // namespace emulated

extern "C" __attribute__((visibility("default"))) const emulated::Fault* emulated_fault() {
    return &emulated::last_fault;
}
