// Buffers under watch, and what is known of their bytes.
#pragma once
#include "internal.h"

namespace emulated {

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
};

extern Memory static_shared, dynamic_shared;
Memory* find(uint8_t* at);  // the buffer that holds a byte, or null
void fill(Memory& memory, uint8_t* at, size_t bytes, Filled how);
bool is_of_runtime(uint8_t* at);  // fibers' stacks, the runtime's own data
const char* verb(Access access);
[[noreturn]] void fault_at(const char* kind, void* place, const char* text);
[[noreturn]] void out_of_bounds(uint8_t* at, size_t bytes, Access access, void* place);
void access_memory(uint8_t* at, size_t bytes, Access access, void* place, bool aligned);
void forget_order_of_launch();
void forget_order_of_block();

}  // namespace emulated
