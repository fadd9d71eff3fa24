// Checks of every access: inside a buffer, aligned, of bytes that hold something, and in an order
// that the kernel itself enforces.
//
// Kernels of the checked flavours are compiled with -fsanitize=thread, which puts a call before
// every access to memory that other threads might see (hooks.cpp).
//
// Two accesses of which one writes must be ordered by the block's barrier, by __syncwarp, or by
// atomic operations on one address, the first behind a fence and the second before one (PTX ISA,
// memory consistency model: release and acquire patterns). Blocks count their barriers (the epoch),
// lanes their __syncwarps (the clock, joined as vector clocks: Mattern, 1989), so a stamp of both
// says what came before.
// Shuffles and votes order no memory (CUDA C++ Programming Guide, warp shuffle functions).
//
// An asynchronous copy reads its source and writes its target at any moment up to its own thread's
// wait (PTX ISA, cp.async): until then nobody may touch the target, that thread included, and
// nobody change the source. What is never waited for is on its way until the block has ended.
#include "memory.h"
#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace emulated {
namespace {

struct Release {  // what a block has made visible to those that see an atomic operation of it
    uint32_t epoch;                  // its accesses before this epoch
    uint32_t thread, thread_epoch;   // and this thread's up to that one
};

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

uint32_t offset_of(void* place) {
    return static_cast<uint32_t>(static_cast<char*>(place) - image_begin);
}

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
        if (cell.generation != memory.generation) {
            cell = Cell{};
            cell.generation = memory.generation;
        }
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

void written(Memory& memory, uint8_t* at, size_t bytes, Access access, void* place, bool silent) {
    fill(memory, at, bytes, full);
    if (memory.cells) order(memory, at, bytes, access, place, silent);
}

// A write of a byte to which a copy is on its way: whose, and asked for where.
[[noreturn]] void under_way(const Memory& memory, uint8_t* at, void* place) {
    for (unsigned i = 0; i < block_threads; i++)
        for (const Copy& copy : threads[i].copies) {
            auto* to = static_cast<uint8_t*>(copy.to);
            if (at < to || at >= to + copy.bytes) continue;
            void* other = copy.place;
            fault_against("race", place, block_number, i, &other, 1,
                          "write of byte %td of %s at {at}: the asynchronous copy to it of {other} "
                          "is on its way, since its thread has not waited for it",
                          at - memory.begin, memory.name.c_str());
        }
    std::abort();  // bytes are marked together with the copy's being listed
}

void look_inside(Memory& memory, uint8_t* at, size_t bytes, Access access, void* place) {
    if (!memory.filled) return;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t found = memory.filled[at - memory.begin + i];
        if (found == on_its_way && access == Access::write && memory.cells)
            under_way(memory, at + i, place);
        if (found == full || (access == Access::write && found != gap)) continue;
        if (found == gap) out_of_bounds(at + i, bytes, access, place);
        char text[300];
        std::snprintf(text, sizeof text, found == on_its_way
                      ? "%s of byte %td of %s at {at}: an asynchronous copy to it is on its way, "
                        "and its thread has not waited for it"
                      : "%s of byte %td of %s at {at}, which nobody has written",
                      verb(access), at - memory.begin + i, memory.name.c_str());
        fault_at("uninitialised", place, text);
    }
}

}  // namespace

void access_memory(uint8_t* at, size_t bytes, Access access, void* place, bool aligned) {
    if (!request.checks || !in_kernel() || is_of_runtime(at)) return;
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

void settle() {
    if (!doubtful.at) return;
    uint8_t* at = doubtful.at;
    doubtful.at = nullptr;
    if (Memory* memory = find(at))
        written(*memory, at, doubtful.bytes, Access::write, doubtful.place,
                std::memcmp(at, doubtful.before, doubtful.bytes) == 0);
}

void forget_order_of_launch() {
    doubtful.at = nullptr;
    releases.clear();
}

void forget_order_of_block() {
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
    auto* to = static_cast<uint8_t*>(copy.to);
    if (!arrived) {
        access_memory(to, copy.bytes, Access::write, copy.place, true);
        doubtful.at = nullptr;
    } else if (request.checks > 1 && copy.given) {
        touch(copy.from, copy.given, Access::read, copy.place);  // perhaps only now
        if (std::memcmp(copy.from, copy.held, copy.given))
            fault_at("race", copy.place, "the asynchronous copy of {at}: what it reads was changed "
                     "while it was on its way");
    }
    Memory* memory = find(to);
    if (!memory) return;
    written(*memory, to, copy.bytes, Access::write, copy.place, false);
    if (!arrived) fill(*memory, to, copy.bytes, on_its_way);
}

}  // namespace emulated
