// Checks of every access: inside a buffer, aligned, of bytes that hold something, and in an order
// that the kernel itself enforces.
//
// Kernels of the checked flavours are compiled with -fsanitize=thread, which puts a call before
// every access to memory that other threads might see; the functions it calls are the ones at the
// end of this file.
//
// Two accesses of which one writes must be ordered by the block's barrier, by __syncwarp, or by
// atomic operations on one address, the first behind a fence and the second before one (PTX ISA,
// memory consistency model: release and acquire patterns). Blocks count their barriers (the epoch), lanes their __syncwarps
// (the clock, joined as vector clocks: Mattern, 1989), so a stamp of both says what came before.
// Shuffles and votes order no memory (CUDA C++ Programming Guide, warp shuffle functions).
#include "internal.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unordered_map>

namespace emulated {
namespace {

enum Filled : uint8_t { empty, full, on_its_way, gap };  // what is known of a byte

struct Stamp {  // an access: by whom, when, where in the source
    uint32_t block, epoch, clock, place;
    uint16_t thread;
    enum : uint8_t { none, plain, atomic } kind;
};
struct Cell {  // of two bytes, the smallest number there is
    uint32_t generation;
    Stamp write, read, other_read;
};
struct Memory {  // a buffer under watch
    std::string name;
    uint8_t* begin;
    size_t bytes;
    uint8_t* filled;      // null: all of it
    Cell* cells;          // null: no races are looked for
    uint32_t generation;  // cells of an earlier one are as good as empty
    bool shared;
};
struct Release {  // what a block has made visible to those that see an atomic operation of it
    uint32_t epoch;                  // its accesses before this epoch
    uint32_t thread, thread_epoch;   // and this thread's up to that one
};

std::vector<Memory> watched, allocations;
Memory static_shared{}, dynamic_shared{};
std::map<uint64_t, uint64_t> allocated;  // address -> bytes
bool allocations_changed;
Memory* last_hit;
uint32_t generation;
uint8_t *runtime_begin, *runtime_end;
// Of the running block: what atomic operations told it of others and, once it has fenced, what it
// knows; and up to where all its threads have fenced.
std::unordered_map<uint32_t, Release> heard, known;
std::unordered_map<uintptr_t, std::unordered_map<uint32_t, Release>> releases;
uint32_t published;
bool fence_since_barrier;
// A write whose value is not known until it has happened; one that changes nothing races with
// nobody.
struct {
    uint8_t* at;
    size_t bytes;
    void* place;
    uint8_t before[16];
} doubtful;

template <class T> T* map_array(size_t count) {
    void* at = mmap(nullptr, std::max<size_t>(count * sizeof(T), 1), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) std::abort();
    return static_cast<T*>(at);
}
template <class T> void unmap_array(T*& array, size_t count) {
    if (array) munmap(array, std::max<size_t>(count * sizeof(T), 1));
    array = nullptr;
}
size_t cells_of(size_t bytes) { return bytes / 2 + 1; }

void forget(Memory& memory) {
    unmap_array(memory.filled, memory.bytes);
    unmap_array(memory.cells, cells_of(memory.bytes));
}

std::vector<Memory>& global_buffers() { return watched.empty() ? allocations : watched; }

Memory* find(uint8_t* at) {
    auto holds = [at](const Memory& m) { return at >= m.begin && at < m.begin + m.bytes; };
    if (last_hit && holds(*last_hit)) return last_hit;
    if (holds(dynamic_shared)) return last_hit = &dynamic_shared;
    if (holds(static_shared)) return last_hit = &static_shared;
    auto& buffers = global_buffers();
    auto after = std::upper_bound(buffers.begin(), buffers.end(), at,
                                  [](uint8_t* p, const Memory& m) { return p < m.begin; });
    if (after != buffers.begin() && holds(*(after - 1))) return last_hit = &*(after - 1);
    return nullptr;
}

uint32_t offset_of(void* place) {
    return static_cast<uint32_t>(static_cast<char*>(place) - image_begin);
}
const char* verb(Access access) {
    return access == Access::read ? "read" : access == Access::write ? "write" : "atomic operation";
}

[[noreturn]] void fault_at(const char* kind, void* place, const char* text) {
    fault_against(kind, place, 0, 0, nullptr, 0, "%s", text);
}

[[noreturn]] void out_of_bounds(uint8_t* at, size_t bytes, Access access, void* place) {
    Memory* nearest = nullptr;
    size_t away = SIZE_MAX;
    auto look = [&](Memory& m) {
        if (!m.bytes) return;
        size_t distance = at < m.begin ? m.begin - at
                          : at >= m.begin + m.bytes ? at - (m.begin + m.bytes) : 0;
        if (distance < away) away = distance, nearest = &m;
    };
    for (Memory& m : global_buffers()) look(m);
    look(dynamic_shared);
    look(static_shared);
    char text[400];
    if (!nearest)
        std::snprintf(text, sizeof text, "%s of %zu bytes at {at}, outside every buffer",
                      verb(access), bytes);
    else
        std::snprintf(text, sizeof text, "%s of %zu bytes at {at}, at byte %td of %s, which has %zu",
                      verb(access), bytes, at - nearest->begin, nearest->name.c_str(),
                      nearest->bytes);
    fault_at("out_of_bounds", place, text);
}

// ---- order
bool before_me(const Stamp& stamp) {
    Thread& me = self();
    if (stamp.block == block_number) {
        if (stamp.thread == me.linear || stamp.epoch < epoch) return true;
        return stamp.thread / 32u == me.warp && me.seen[stamp.thread % 32] >= stamp.clock;
    }
    auto found = known.find(stamp.block);
    if (found == known.end()) return false;
    const Release& release = found->second;
    return stamp.epoch < release.epoch ||
           (stamp.thread == release.thread && stamp.epoch <= release.thread_epoch);
}

[[noreturn]] void race(const Memory& memory, uint8_t* at, Access access, void* place,
                       const Stamp& stamp, Access other) {
    void* other_place = image_begin + stamp.place;
    fault_against("race", place, stamp.block, stamp.thread, &other_place, 1,
                  "%s of byte %td of %s at {at}, and %s at {other}: nothing orders the two%s",
                  verb(access), at - memory.begin, memory.name.c_str(), verb(other),
                  stamp.block == block_number ? "" : " (across blocks: __threadfence, an atomic "
                  "operation in each, __threadfence)");
}

void note_read(Cell& cell, const Stamp& me) {
    if (!cell.read.kind || before_me(cell.read)) cell.read = me;
    else if (!cell.other_read.kind || before_me(cell.other_read) ||
             (cell.read.block == cell.other_read.block &&
              cell.read.thread / 32 == cell.other_read.thread / 32))
        cell.other_read = me;  // two concurrent readers are kept, of two warps where there are two
}

void order(Memory& memory, uint8_t* at, size_t bytes, Access access, void* place, bool silent) {
    Thread& thread = self();
    Stamp me{block_number, epoch, thread.clock, offset_of(place),
             static_cast<uint16_t>(thread.linear),
             access == Access::atomic ? Stamp::atomic : Stamp::plain};
    size_t first = (at - memory.begin) / 2, last = (at + bytes - 1 - memory.begin) / 2;
    for (size_t i = first; i <= last; i++) {
        Cell& cell = memory.cells[i];
        if (cell.generation != memory.generation) cell = Cell{}, cell.generation = memory.generation;
        const Stamp& write = cell.write;
        uint8_t* byte = memory.begin + 2 * i;
        bool both_atomic = access == Access::atomic && write.kind == Stamp::atomic;
        if (write.kind && !both_atomic && !silent && !before_me(write))
            race(memory, byte, access, place, write,
                 write.kind == Stamp::atomic ? Access::atomic : Access::write);
        if (access == Access::read) {
            note_read(cell, me);
            continue;
        }
        if (silent) {
            if (!write.kind) cell.write = me;
            continue;
        }
        for (const Stamp* read : {&cell.read, &cell.other_read})
            if (read->kind && !before_me(*read))
                race(memory, byte, access, place, *read, Access::read);
        cell.write = me;
        cell.read.kind = cell.other_read.kind = Stamp::none;
    }
}

void fill(Memory& memory, uint8_t* at, size_t bytes, Filled how) {
    if (memory.filled) std::memset(memory.filled + (at - memory.begin), how, bytes);
}

void written(Memory& memory, uint8_t* at, size_t bytes, Access access, void* place, bool silent) {
    fill(memory, at, bytes, full);
    if (memory.cells) order(memory, at, bytes, access, place, silent);
}

void look_inside(Memory& memory, uint8_t* at, size_t bytes, Access access, void* place) {
    if (!memory.filled) return;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t found = memory.filled[at - memory.begin + i];
        if (found == full || (access == Access::write && found != gap)) continue;
        if (found == gap) out_of_bounds(at + i, bytes, access, place);
        char text[300];
        std::snprintf(text, sizeof text, found == on_its_way
                      ? "%s of byte %td of %s at {at}: an asynchronous copy to it is on its way, "
                        "and this thread has not waited for it"
                      : "%s of byte %td of %s at {at}, which nobody has written",
                      verb(access), at - memory.begin + i, memory.name.c_str());
        fault_at("uninitialised", place, text);
    }
}

bool nobodys_business(uint8_t* at) {  // fibers' own stacks, the runtime, the kernel's constants
    auto* stack = threads[0].stack;
    return (at >= stack && at < stack + MOST_THREADS * STACK) ||
           (at >= runtime_begin && at < runtime_end);
}

void access_memory(uint8_t* at, size_t bytes, Access access, void* place, bool aligned) {
    if (!request.checks || !in_kernel() || nobodys_business(at)) return;
    settle();
    look_at_clock();
    Memory* memory = find(at);
    if (!memory) {
        if (at >= reinterpret_cast<uint8_t*>(image_begin) &&
            at < reinterpret_cast<uint8_t*>(image_end))
            return;
        out_of_bounds(at, bytes, access, place);
    }
    if (at + bytes > memory->begin + memory->bytes) out_of_bounds(at, bytes, access, place);
    if (aligned && reinterpret_cast<uintptr_t>(at) % bytes) {
        char text[300];
        std::snprintf(text, sizeof text, "%s of %zu bytes at {at}, at byte %td of %s: the address "
                      "is no multiple of %zu", verb(access), bytes, at - memory->begin,
                      memory->name.c_str(), bytes);
        fault_at("misaligned", place, text);
    }
    look_inside(*memory, at, bytes, access, place);
    if (access == Access::read) {
        if (memory->cells) order(*memory, at, bytes, access, place, false);
    } else if (access == Access::atomic || !memory->cells || bytes > sizeof doubtful.before) {
        written(*memory, at, bytes, access, place, false);
    } else {
        doubtful.at = at;
        doubtful.bytes = bytes;
        doubtful.place = place;
        std::memcpy(doubtful.before, at, bytes);
    }
}

void begin(Memory& memory, const char* name, uint8_t* at, size_t bytes) {
    if (memory.begin == at && memory.bytes == bytes) return;
    forget(memory);
    memory = {name, at, bytes, nullptr, nullptr, 0, true};
}

}  // namespace

void settle() {
    if (!doubtful.at) return;
    uint8_t* at = doubtful.at;
    doubtful.at = nullptr;
    if (Memory* memory = find(at))
        written(*memory, at, doubtful.bytes, Access::write, doubtful.place,
                std::memcmp(at, doubtful.before, doubtful.bytes) == 0);
}

void checks_begin_launch(char* shared_begin, char* shared_end) {
    doubtful.at = nullptr;
    last_hit = nullptr;
    if (!request.checks) return;
    if (!runtime_begin) find_runtime(runtime_begin, runtime_end);
    if (allocations_changed) {
        for (Memory& memory : allocations) forget(memory);
        allocations.clear();
        for (auto [address, bytes] : allocated)
            allocations.push_back({"an allocation", reinterpret_cast<uint8_t*>(address), bytes,
                                   nullptr, nullptr, 0, false});
        allocations_changed = false;
    }
    begin(static_shared, "shared memory", reinterpret_cast<uint8_t*>(shared_begin),
          shared_end - shared_begin);
    begin(dynamic_shared, "dynamic shared memory", state.dynamic_shared, request.dynamic_bytes);
    generation++;
    auto prepare = [](Memory& memory) {
        memory.generation = generation;
        if (request.checks < 2) unmap_array(memory.cells, cells_of(memory.bytes));
        else if (!memory.cells) memory.cells = map_array<Cell>(cells_of(memory.bytes));
    };
    for (Memory& memory : global_buffers()) prepare(memory);
    for (Memory* memory : {&static_shared, &dynamic_shared}) {
        prepare(*memory);
        if (!memory->filled) memory->filled = map_array<uint8_t>(memory->bytes);
    }
    releases.clear();
}

void checks_begin_block() {
    if (!request.checks) return;
    generation++;
    for (Memory* memory : {&static_shared, &dynamic_shared}) {
        memory->generation = generation;
        fill(*memory, memory->begin, memory->bytes, empty);
    }
    if (request.variable_count) {  // between variables lie bytes that nobody may touch
        fill(static_shared, static_shared.begin, static_shared.bytes, gap);
        for (int i = 0; i < request.variable_count; i++)
            fill(static_shared, static_shared.begin + request.variables[i].begin,
                 request.variables[i].bytes, empty);
    }
    heard.clear();
    known.clear();
    published = 0;
    fence_since_barrier = false;
}

void checks_barrier() {
    if (!fence_since_barrier) return;
    fence_since_barrier = false;
    for (unsigned i = 0; i < block_threads; i++)
        if (threads[i].status != Thread::done && threads[i].fenced != epoch) return;
    published = epoch + 1;
}

void fence() {
    settle();
    for (auto& [block, release] : heard) known[block] = release;
    heard.clear();
    self().fenced = epoch;
    fence_since_barrier = true;
}

// An atomic operation hears what the earlier ones on the same address have published (a fence after
// it makes that known), and publishes what a fence before it covers.
void touch(const volatile void* where, size_t bytes, Access access, void* place) {
    auto* at = static_cast<uint8_t*>(const_cast<void*>(where));
    look_at_clock();
    access_memory(at, bytes, access, place, true);
    if (!request.checks || access != Access::atomic) return;
    auto found = releases.find(reinterpret_cast<uintptr_t>(at));
    if (found != releases.end())
        for (auto& [block, release] : found->second) heard[block] = release;
    Thread& me = self();
    uint32_t covered = std::max(me.fenced, published);
    if (covered)
        releases[reinterpret_cast<uintptr_t>(at)][block_number] = {covered, me.linear, epoch};
}

// The copy writes at any moment between its start and its wait; only the wait makes it readable.
void landing(const Copy& copy, bool arrived) {
    if (!request.checks) return;
    access_memory(static_cast<uint8_t*>(copy.to), copy.bytes, Access::write, copy.place, true);
    doubtful.at = nullptr;
    Memory* memory = find(static_cast<uint8_t*>(copy.to));
    if (!memory) return;
    written(*memory, static_cast<uint8_t*>(copy.to), copy.bytes, Access::write, copy.place, false);
    if (!arrived) fill(*memory, static_cast<uint8_t*>(copy.to), copy.bytes, on_its_way);
}

}  // namespace emulated

using namespace emulated;

struct Watched {  // as Buffer in faults.py
    const char* name;
    uint64_t address, bytes;
    int32_t initialised;
};

extern "C" {
void emulated_watch(const Watched* buffers, int32_t count) {
    for (Memory& memory : watched) forget(memory);
    watched.clear();
    last_hit = nullptr;
    for (int32_t i = 0; i < count; i++) {
        auto& buffer = buffers[i];
        Memory memory{buffer.name, reinterpret_cast<uint8_t*>(buffer.address), buffer.bytes,
                      nullptr, nullptr, 0, false};
        if (!buffer.initialised) memory.filled = map_array<uint8_t>(buffer.bytes);
        watched.push_back(memory);
    }
    std::sort(watched.begin(), watched.end(),
              [](const Memory& a, const Memory& b) { return a.begin < b.begin; });
}
void emulated_initialised(uint64_t address, uint64_t bytes) {
    auto* from = reinterpret_cast<uint8_t*>(address);
    for (Memory& memory : watched) {
        auto* start = std::max(from, memory.begin);
        auto* stop = std::min(from + bytes, memory.begin + memory.bytes);
        if (start < stop) fill(memory, start, stop - start, full);
    }
}
void emulated_allocated(uint64_t address, uint64_t bytes) {
    if (bytes) allocated[address] = bytes;
    else allocated.erase(address);
    allocations_changed = true;
    last_hit = nullptr;
}

// ---- what -fsanitize=thread calls
#define PLACE __builtin_return_address(0)
#define HOOK(name, bytes, kind, aligned)                                                  \
    void __tsan_##name(void* at) {                                                        \
        access_memory(static_cast<uint8_t*>(at), bytes, Access::kind, PLACE, aligned);    \
    }
#define HOOKS(bytes)                                            \
    HOOK(read##bytes, bytes, read, true)                        \
    HOOK(write##bytes, bytes, write, true)                      \
    HOOK(volatile_read##bytes, bytes, read, true)               \
    HOOK(volatile_write##bytes, bytes, write, true)             \
    HOOK(unaligned_read##bytes, bytes, read, false)             \
    HOOK(unaligned_write##bytes, bytes, write, false)           \
    HOOK(unaligned_volatile_read##bytes, bytes, read, false)    \
    HOOK(unaligned_volatile_write##bytes, bytes, write, false)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* at, size_t bytes) {
    access_memory(static_cast<uint8_t*>(at), bytes, Access::read, PLACE, false);
}
void __tsan_write_range(void* at, size_t bytes) {
    access_memory(static_cast<uint8_t*>(at), bytes, Access::write, PLACE, false);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// ---- what -fsanitize=bounds and alignment call
void __ubsan_handle_out_of_bounds(void*, uintptr_t index) {
    if (!in_kernel()) return;
    char text[200];
    std::snprintf(text, sizeof text, "index %td at {at}, outside the array", (ptrdiff_t)index);
    fault_at("out_of_bounds", PLACE, text);
}
// `about`: file, line and column, the type's description, the alignment's logarithm.
void __ubsan_handle_type_mismatch_v1(const uint8_t* about, uintptr_t at) {
    unsigned wanted = 1u << about[24];
    if (!in_kernel() || at % wanted == 0) return;
    char text[300];
    Memory* memory = find(reinterpret_cast<uint8_t*>(at));
    std::snprintf(text, sizeof text, "an access at {at} to byte %td of %s: the address is no "
                  "multiple of %u", memory ? reinterpret_cast<uint8_t*>(at) - memory->begin : 0,
                  memory ? memory->name.c_str() : "memory that no buffer holds", wanted);
    fault_at("misaligned", PLACE, text);
}
}
