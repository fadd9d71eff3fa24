// Finds races between the threads of a C kernel by what they access, not by when. gcc's
// -fsanitize=thread calls a function here at every access; late.c says where threads wait for each
// other. Threads of a team that have passed equally many barriers are in the same epoch: two of
// them at the same 4 bytes, one writing, without a lock that both hold, is a race, in whatever order
// they came this time.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PLAIN __attribute__((no_sanitize("thread"), visibility("default")))
#define PAGES (1 << 16)  // of the directory, a power of two; a page is 4096 bytes of the kernel's
#define CELLS 1024
#define KEPT 8
#define SEVERAL 4095u

int __real_omp_get_thread_num(void);
int omp_get_level(void);

typedef uint64_t Cell;  // epoch 32, lock 8, reader 12, writer 12; of both, thread + 1, or 0
typedef struct {
    uintptr_t key;
    Cell* cells;
} Page;

typedef struct {
    uint64_t address, write, before;  // `before`: the cell that was found
    uint64_t thread;
} Race;

int race_on;        // accesses are looked at
int race_abstains;  // something was met that orders threads in ways unknown here
int race_count;
Race race_found[KEPT];
uint64_t race_seen, race_busy;  // accesses in parallel regions, threads that made any

static Page* directory;
static int pages;
static __thread unsigned epoch = 1, me = 1;
static __thread unsigned lock;
static __thread int depth;
static __thread uint64_t seen;
static __thread Page last;

PLAIN int race_begin(void) {
    directory = mmap(NULL, PAGES * sizeof(Page), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (directory == MAP_FAILED) {
        directory = NULL;
        return 0;
    }
    pages = race_count = race_abstains = 0;
    race_seen = race_busy = last.key = 0;
    epoch++;
    race_on = 1;
    return 1;
}

PLAIN void race_end(void) {
    race_on = 0;
    for (int k = 0; k < PAGES; k++) {
        if (directory[k].cells) {
            munmap(directory[k].cells, CELLS * sizeof(Cell));
        }
    }
    munmap(directory, PAGES * sizeof(Page));
    directory = NULL;
}

PLAIN void race_unknown(void) { race_abstains = 1; }

// What late.c calls. Threads of a team begin in the epoch after their creator's.
PLAIN unsigned race_fork(void) { return epoch + 1; }

PLAIN void race_enter(unsigned first) {
    epoch = first;
    me = (unsigned)__real_omp_get_thread_num() + 1;
    last.key = 0;
    lock = 0;
}

PLAIN void race_barrier(void) { epoch++; }

PLAIN void race_leave(void) {
    __atomic_add_fetch(&race_seen, seen, __ATOMIC_RELAXED);
    __atomic_add_fetch(&race_busy, seen > 0, __ATOMIC_RELAXED);
    seen = 0;
}

PLAIN void race_join(void) {
    epoch++;
    me = 1;
    last.key = 0;
}

PLAIN void race_lock(const void* which) {
    if (depth++ == 0) {
        lock = (unsigned)(((uintptr_t)which >> 3) * 2654435761u >> 24 & 255) | 1;
    }
}

PLAIN void race_unlock(void) {
    if (--depth == 0) {
        lock = 0;
    }
}

static PLAIN Cell* cells_of(uintptr_t key, int make) {
    if (last.key == key) {
        return last.cells;
    }
    static int busy;
    size_t at = key * 0x9E3779B97F4A7C15u >> 48;
    Cell* found = NULL;
    while (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
    while (directory[at].key && directory[at].key != key) {
        at = (at + 1) % PAGES;
    }
    if (directory[at].key) {
        found = directory[at].cells;
    } else if (make && pages < PAGES * 3 / 4) {
        found = mmap(NULL, CELLS * sizeof(Cell), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) {
            found = NULL;
        } else {
            directory[at] = (Page){key, found};
            pages++;
        }
    }
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
    if (found) {
        last = (Page){key, found};
    } else if (make) {
        race_abstains = 2;  // no room
    }
    return found;
}

static PLAIN void tell(uintptr_t granule, int write, Cell before) {
    int number = __atomic_fetch_add(&race_count, 1, __ATOMIC_RELAXED);
    if (number < KEPT) {
        race_found[number] = (Race){granule * 4, (uint64_t)write, before, me - 1};
    }
}

static PLAIN void touch(uintptr_t granule, int write, unsigned held) {
    Cell* cells = cells_of(granule / CELLS + 1, 1);
    if (!cells) {
        return;
    }
    Cell* cell = cells + granule % CELLS;
    Cell old = __atomic_load_n(cell, __ATOMIC_RELAXED), new;
    unsigned writer, reader, guard;
    do {
        writer = old & 4095, reader = old >> 12 & 4095, guard = old >> 24 & 255;
        if (old >> 32 != epoch) {
            writer = reader = 0, guard = held;
        }
        int other = (writer && writer != me) || (write && reader && reader != me);
        guard = guard == held ? guard : 0;
        if (other && !guard) {
            tell(granule, write, old);
            return;
        }
        if (write) {
            writer = writer && writer != me ? SEVERAL : me;
        } else {
            reader = reader && reader != me ? SEVERAL : me;
        }
        new = (Cell)epoch << 32 | (Cell)guard << 24 | (Cell)reader << 12 | writer;
    } while (new != old && !__atomic_compare_exchange_n(cell, &old, new, 0, __ATOMIC_RELAXED,
                                                        __ATOMIC_RELAXED));
}

static PLAIN void access_of(const volatile void* from, size_t size, int write, unsigned held) {
    if (!race_on || !size || omp_get_level() == 0) {
        return;
    }
    seen++;
    uintptr_t first = (uintptr_t)from / 4, end = ((uintptr_t)from + size - 1) / 4;
    for (uintptr_t granule = first; granule <= end; granule++) {
        touch(granule, write, held);
    }
}

// Heap memory that is given back may be another thread's next, without a race.
PLAIN void race_forget(void* from, size_t size) {
    if (!race_on) {
        return;
    }
    for (uintptr_t g = (uintptr_t)from / 4; g <= ((uintptr_t)from + size - 1) / 4; g++) {
        Cell* cells = cells_of(g / CELLS + 1, 0);
        if (cells) {
            __atomic_store_n(cells + g % CELLS, 0, __ATOMIC_RELAXED);
        }
    }
}

// What gcc calls.
PLAIN void __tsan_init(void) {}
PLAIN void __tsan_func_entry(void* from) { (void)from; }
PLAIN void __tsan_func_exit(void) {}
PLAIN void __tsan_vptr_update(void** at, void* to) { (void)at, (void)to; }
PLAIN void __tsan_read_range(void* at, size_t size) { access_of(at, size, 0, lock); }
PLAIN void __tsan_write_range(void* at, size_t size) { access_of(at, size, 1, lock); }

#define ACCESSES(size) \
    PLAIN void __tsan_read##size(void* at) { access_of(at, size, 0, lock); } \
    PLAIN void __tsan_write##size(void* at) { access_of(at, size, 1, lock); } \
    PLAIN void __tsan_unaligned_read##size(void* at) { access_of(at, size, 0, lock); } \
    PLAIN void __tsan_unaligned_write##size(void* at) { access_of(at, size, 1, lock); } \
    PLAIN void __tsan_volatile_read##size(void* at) { access_of(at, size, 0, lock); } \
    PLAIN void __tsan_volatile_write##size(void* at) { access_of(at, size, 1, lock); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

// An atomic access counts as one under a lock that all atomics hold. Of those that order what
// stands around them (a barrier made by hand) nothing is known here.
static PLAIN void atomic_at(const volatile void* at, size_t size, int write, int order) {
    if (order != __ATOMIC_RELAXED && race_on && omp_get_level() > 0) {
        race_unknown();
    }
    access_of(at, size, write, 2);
}

#define MODIFY(bits, type, name, builtin) \
    PLAIN type __tsan_atomic##bits##_##name(volatile type* at, type value, int order) { \
        atomic_at(at, sizeof(type), 1, order); \
        return builtin(at, value, __ATOMIC_SEQ_CST); \
    }
#define COMPARE(bits, type, name) \
    PLAIN int __tsan_atomic##bits##_##name(volatile type* at, type* old, type value, int order, \
                                           int failed) { \
        (void)failed; \
        atomic_at(at, sizeof(type), 1, order); \
        return __atomic_compare_exchange_n(at, old, value, 0, __ATOMIC_SEQ_CST, \
                                           __ATOMIC_SEQ_CST); \
    }
#define ATOMICS(bits, type) \
    PLAIN type __tsan_atomic##bits##_load(const volatile type* at, int order) { \
        atomic_at(at, sizeof(type), 0, order); \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST); \
    } \
    PLAIN void __tsan_atomic##bits##_store(volatile type* at, type value, int order) { \
        atomic_at(at, sizeof(type), 1, order); \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST); \
    } \
    PLAIN type __tsan_atomic##bits##_compare_exchange_val(volatile type* at, type old, type value, \
                                                          int order, int failed) { \
        (void)failed; \
        atomic_at(at, sizeof(type), 1, order); \
        __atomic_compare_exchange_n(at, &old, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return old; \
    } \
    COMPARE(bits, type, compare_exchange_strong) \
    COMPARE(bits, type, compare_exchange_weak) \
    MODIFY(bits, type, exchange, __atomic_exchange_n) \
    MODIFY(bits, type, fetch_add, __atomic_fetch_add) \
    MODIFY(bits, type, fetch_sub, __atomic_fetch_sub) \
    MODIFY(bits, type, fetch_and, __atomic_fetch_and) \
    MODIFY(bits, type, fetch_or, __atomic_fetch_or) \
    MODIFY(bits, type, fetch_xor, __atomic_fetch_xor) \
    MODIFY(bits, type, fetch_nand, __atomic_fetch_nand)
ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

PLAIN void __tsan_atomic_thread_fence(int order) {
    (void)order;
    race_unknown();
}
PLAIN void __tsan_atomic_signal_fence(int order) { (void)order; }

// Copies that the compiler leaves to the C library are accesses too.
#define COPY(name, ...) \
    void* __real_##name(__VA_ARGS__); \
    PLAIN void* __wrap_##name(__VA_ARGS__)
COPY(memcpy, void* to, const void* from, size_t size) {
    access_of(from, size, 0, lock);
    access_of(to, size, 1, lock);
    return __real_memcpy(to, from, size);
}
COPY(memmove, void* to, const void* from, size_t size) {
    access_of(from, size, 0, lock);
    access_of(to, size, 1, lock);
    return __real_memmove(to, from, size);
}
COPY(memset, void* to, int byte, size_t size) {
    access_of(to, size, 1, lock);
    return __real_memset(to, byte, size);
}
