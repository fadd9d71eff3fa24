// What the compiler's instrumentation calls before every access to memory.
#include "memory.h"

using namespace emulated;

extern "C" {
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
