// A launch from begin to end, and the block's barrier.
#include "internal.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <tuple>

namespace emulated {

State state;
Thread threads[MOST_THREADS];
Thread outside;
unsigned block_threads, live_threads, block_number, epoch;
unsigned meeting_lanes[MOST_WARPS], returned_lanes[MOST_WARPS];
char *image_begin, *image_end;
Request request;

namespace {

void (*kernel_body)(void*);
void* kernel_context;
unsigned char* stacks;
unsigned char *dynamic_room, *dynamic_room_end;

// ---- the block's barrier
struct Tally {
    int count = 0;
    bool all = true, any = false;
};
Tally tally, opened;  // of those that wait now; of the barrier that opened last
unsigned arrived;
int barrier_line;
std::vector<Thread*> at_barrier;

void open_barrier() {
    checks_barrier();
    epoch++;
    opened = tally;
    tally = Tally();
    for (Thread* thread : at_barrier) wake(*thread);
    at_barrier.clear();
    arrived = 0;
}

}  // namespace

int barrier(bool predicate, Vote vote, int line) {
    settle();
    Thread& me = self();
    if (arrived && barrier_line != line) {
        Thread& other = *at_barrier.front();
        void* places[MOST_PLACES];
        int found = walk(other.waits_frame, other, places);
        fault_against("barrier", nullptr, block_number, other.linear, places, found,
                      "a barrier in diverging branches: this thread waits at {at}, %u others of "
                      "its block at {other}", arrived);
    }
    barrier_line = line;
    arrived++;
    tally = {tally.count + predicate, tally.all && predicate, tally.any || predicate};
    if (arrived < live_threads) {
        at_barrier.push_back(&me);
        park("__syncthreads", __builtin_frame_address(0));
    } else if (request.schedule == fifo) {
        open_barrier();
    } else {  // the last to come need not be the first to go on
        at_barrier.push_back(&me);
        me.status = Thread::waiting;
        open_barrier();
        run_another();
    }
    return vote == Vote::count ? opened.count : vote == Vote::all ? opened.all : opened.any;
}

// ---- a launch
namespace {

void fiber() {
    kernel_body(kernel_context);
    settle();
    Thread& me = self();
    me.status = Thread::done;
    live_threads--;
    returned_lanes[me.warp] |= 1u << me.lane;
    // Those that have returned count no more (CUDA C++ Programming Guide, 7.x threads' barriers).
    if (arrived && arrived == live_threads) open_barrier();
    end_fiber();
}

void prepare_block(unsigned number) {
    block_number = number;
    state.block_index = {number, 0, 0};
    live_threads = block_threads;
    epoch = 1;
    at_barrier.clear();
    arrived = 0;
    tally = Tally();
    checks_begin_block();
    prepare_schedule();
    std::fill(meeting_lanes, meeting_lanes + MOST_WARPS, 0);
    std::fill(returned_lanes, returned_lanes + MOST_WARPS, 0);
    for (unsigned i = 0; i < block_threads; i++) {
        Thread& thread = threads[i];
        thread.index = {i, 0, 0};
        thread.linear = i;
        thread.lane = i % 32;
        thread.warp = i / 32;
        thread.stack = stacks + i * STACK;
        thread.meets = false;
        thread.clock = 1;
        std::fill(thread.seen, thread.seen + 32, 0);
        thread.fenced = 0;
        thread.copies.clear();
        thread.copy_group = 0;
        prepare_fiber(thread, fiber);
        wake(thread);
    }
}

// No thread can go on: who waits for what.
void report_deadlock() {
    unsigned waiting[2] = {};
    Thread* someone[2] = {};
    for (unsigned i = 0; i < block_threads; i++) {
        Thread& thread = threads[i];
        if (thread.status != Thread::waiting) continue;
        if (!waiting[thread.meets]++) someone[thread.meets] = &thread;
        for (unsigned lane = 0; thread.meets && lane < 32; lane++) {
            Thread& other = threads[thread.warp * 32 + lane];
            if (!(thread.mask >> lane & 1) || other.status != Thread::done) continue;
            state.self = &thread;
            fault_of_launch("mask", "%s at {at}: the mask 0x%08x names lane %u, which has "
                            "returned", thread.waits_for, thread.mask, lane);
            return;
        }
    }
    Thread& shown = someone[1] ? *someone[1] : *someone[0];
    state.self = &shown;
    if (someone[0] && someone[1]) {
        last_fault.other_places = walk(someone[0]->waits_frame, *someone[0], last_fault.other);
        last_fault.other_block = block_number;
        last_fault.other_thread = someone[0]->linear;
        fault_of_launch("deadlock", "no thread of the block can go on: %u wait in %s at {at}, %u "
                        "in %s at {other}", waiting[1], someone[1]->waits_for, waiting[0],
                        someone[0]->waits_for);
    } else {
        fault_of_launch("deadlock", "no thread of the block can go on: %u of %u wait in %s at "
                        "{at}", waiting[0] + waiting[1], block_threads, shown.waits_for);
    }
}

bool run_block(unsigned number) {
    prepare_block(number);
    run_block_threads();
    if (!last_fault.kind[0] && live_threads) report_deadlock();
    return !last_fault.kind[0];
}

// What the driver looks at before a launch (CUDA C++ Programming Guide, compute capabilities; the
// limits of 9.0).
bool allowed() {
    struct {
        const char* what;
        uint64_t found, least, most;
    } limits[] = {
        {"the grid's number of blocks", request.grid, 1, 0x7fffffff},
        {"the block's number of threads", request.block, 1, MOST_THREADS},
        {"static shared memory in bytes", request.static_bytes, 0, MOST_STATIC},
        {"shared memory in bytes", request.static_bytes + request.dynamic_bytes, 0, MOST_SHARED},
    };
    for (auto& limit : limits) {
        bool few = limit.found < limit.least;
        if (!few && limit.found <= limit.most) continue;
        fault_of_launch("launch", "the driver would refuse this launch: %s is %zu; at %s %zu",
                        limit.what, static_cast<size_t>(limit.found), few ? "least" : "most",
                        static_cast<size_t>(few ? limit.least : limit.most));
        return false;
    }
    return true;
}

unsigned char* map_memory(size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) std::abort();
    return static_cast<unsigned char*>(at);
}

void prepare_memory() {
    if (stacks) return;
    stacks = map_memory(MOST_THREADS * STACK);
    for (unsigned i = 0; i < MOST_THREADS; i++) mprotect(stacks + i * STACK, 4096, PROT_NONE);
    // Dynamic shared memory ends at a page that nobody may touch.
    size_t room = (MOST_SHARED + 4095) / 4096 * 4096;
    dynamic_room = map_memory(room + 4096);
    dynamic_room_end = dynamic_room + room;
    mprotect(dynamic_room_end, 4096, PROT_NONE);
}

// Where the library that holds `address` lies in memory.
std::pair<char*, char*> image_of(void* address) {
    static std::map<void*, std::pair<char*, char*>> known;
    auto& image = known[address];
    if (image.first) return image;
    Dl_info info;
    dladdr(address, &info);
    image.first = image.second = static_cast<char*>(info.dli_fbase);
    dl_iterate_phdr([](dl_phdr_info* library, size_t, void* data) {
        auto& [begin, end] = *static_cast<std::pair<char*, char*>*>(data);
        char* base = reinterpret_cast<char*>(library->dlpi_addr);
        for (int i = 0; base == begin && i < library->dlpi_phnum; i++) {
            auto& part = library->dlpi_phdr[i];
            if (part.p_type == PT_LOAD) end = std::max(end, base + part.p_vaddr + part.p_memsz);
        }
        return 0;
    }, &image);
    return image;
}

void run_blocks(void (*body)(void*), char* shared_begin, char* shared_end) {
    prepare_memory();
    std::tie(image_begin, image_end) = image_of(reinterpret_cast<void*>(body));
    block_threads = static_cast<unsigned>(request.block);
    auto grid = static_cast<unsigned>(request.grid);
    state.block_size = {block_threads, 1, 1};
    state.grid_size = {grid, 1, 1};
    size_t dynamic = (request.dynamic_bytes + 127) / 128 * 128;
    state.dynamic_shared = dynamic_room_end - dynamic;
    seed_random(request.seed);
    std::vector<uint32_t> order(grid);
    for (uint32_t i = 0; i < grid; i++) order[i] = request.schedule == reverse ? grid - 1 - i : i;
    for (uint32_t i = grid; request.schedule >= random_order && i > 1; i--)
        std::swap(order[i - 1], order[random_number() % i]);
    checks_begin_launch(shared_begin, shared_end);
    Guard guard(request.limit);
    for (uint32_t block : order) {
        std::memset(shared_begin, 0xff, shared_end - shared_begin);  // NaN
        std::memset(state.dynamic_shared, 0xff, dynamic);
        if (!run_block(block)) break;
    }
}

}  // namespace

void find_runtime(uint8_t*& begin, uint8_t*& end) {
    auto image = image_of(&state);
    begin = reinterpret_cast<uint8_t*>(image.first);
    end = reinterpret_cast<uint8_t*>(image.second);
}

int launch(void (*body)(void*), void* context, const Request* asked, char* shared_begin,
           char* shared_end) {
    static std::mutex one_at_a_time;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    forget_fault();
    request = *asked;
    kernel_body = body;
    kernel_context = context;
    state.self = nullptr;
    if (allowed()) run_blocks(body, shared_begin, shared_end);
    state.self = nullptr;
    return last_fault.kind[0] != 0;
}

}  // namespace emulated
