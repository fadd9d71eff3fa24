// Buffers under watch: which there are, which bytes of them hold something.
#include "memory.h"
#include <algorithm>
#include <cstring>
#include <map>
#include <sys/mman.h>

namespace emulated {

Memory static_shared{}, dynamic_shared{};

namespace {

std::vector<Memory> watched, allocations;
std::map<uint64_t, uint64_t> allocated;  // address -> bytes
bool allocations_changed;
Memory* last_hit;
uint32_t generation;
uint8_t *runtime_begin, *runtime_end;

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

void begin(Memory& memory, const char* name, uint8_t* at, size_t bytes) {
    if (memory.begin == at && memory.bytes == bytes) return;
    forget(memory);
    memory = {name, at, bytes, nullptr, nullptr, 0};
}

}  // namespace

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

void fill(Memory& memory, uint8_t* at, size_t bytes, Filled how) {
    if (memory.filled) std::memset(memory.filled + (at - memory.begin), how, bytes);
}

bool is_of_runtime(uint8_t* at) {
    auto* stack = threads[0].stack;
    return (at >= stack && at < stack + MOST_THREADS * STACK) ||
           (at >= runtime_begin && at < runtime_end);
}

const char* verb(Access access) {
    return access == Access::read ? "read" : access == Access::write ? "write" : "atomic operation";
}

void fault_at(const char* kind, void* place, const char* text) {
    fault_against(kind, place, 0, 0, nullptr, 0, "%s", text);
}

void out_of_bounds(uint8_t* at, size_t bytes, Access access, void* place) {
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
        std::snprintf(text, sizeof text,
                      "%s of %zu bytes at {at}, at byte %td of %s, which has %zu", verb(access),
                      bytes, at - nearest->begin, nearest->name.c_str(), nearest->bytes);
    fault_at("out_of_bounds", place, text);
}

void checks_begin_launch(char* shared_begin, char* shared_end) {
    last_hit = nullptr;
    forget_order_of_launch();
    if (!request.checks) return;
    if (!runtime_begin) find_runtime(runtime_begin, runtime_end);
    if (allocations_changed) {
        for (Memory& memory : allocations) forget(memory);
        allocations.clear();
        for (auto [address, bytes] : allocated)
            allocations.push_back({"an allocation", reinterpret_cast<uint8_t*>(address), bytes,
                                   nullptr, nullptr, 0});
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
    forget_order_of_block();
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
                      nullptr, nullptr, 0};
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
}
