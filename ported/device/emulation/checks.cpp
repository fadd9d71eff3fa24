// Checks of single accesses. (The flavour `fast` has none.)
#include "internal.h"
namespace emulated {
void checks_begin_launch(char*, char*) {}
void checks_begin_block() {}
void settle() {}
void checks_barrier() {}
void landing(const Copy&, bool) {}
bool checks_on() { return false; }
void fence() {}
void touch(const volatile void*, size_t, Access, void*) {}
}
struct Watched {  // as Buffer in faults.py
    const char* name;
    uint64_t address, bytes;
    int32_t initialised;
};
extern "C" {
void emulated_watch(const Watched*, int32_t) {}
void emulated_initialised(uint64_t, uint64_t) {}
void emulated_allocated(uint64_t, uint64_t) {}
}
