// Stands between a C kernel and what it calls of OpenMP, of threads and of the heap, so that a
// check can decide what is otherwise the machine's luck: which thread comes late, how many threads a
// team gets, what malloc'ed memory and the stack hold. Linked with the kernel, every name of WRAPPED
// in watched.py by the linker's --wrap; nothing here does anything until a check sets a variable.
#define _GNU_SOURCE
#include <malloc.h>
#include <omp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRAP(type, name, ...) \
    extern type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)
#define UNSEEN __attribute__((no_sanitize("thread")))  // its accesses are not the kernel's
#define NAPS 6       // of a thread in one region: a kernel that asks often must come to an end
#define LONGER 5     // naps in a row, as long as the others still get on
#define NAP 1000000  // nanoseconds
#define SHARES 100   // parts of a loop after which a thread waits, so that others get some too
#define TURN 100000  // nanoseconds
#define STACK 65536  // bytes below a thread's first frame

int __real_omp_get_thread_num(void);  // here, too, the plain name means the one below

int trivium_late;         // 0: nobody; k: thread k - 1 of a team; below 0: by chance, seeded so
int trivium_even;         // 1: threads take turns where a loop's parts go to who comes first
int trivium_most;         // threads that a team gets at most; 0: as many as it asks for
int trivium_fill = -1;    // byte that fresh and freed memory and the stack are filled with, or none
int64_t trivium_regions;  // parallel regions that were entered
int64_t trivium_kept;     // bytes taken from the heap and not given back
int64_t trivium_took;     // times that the heap was asked

// races.c, where it is linked too, orders accesses by these.
extern __attribute__((weak)) unsigned race_fork(void);
extern __attribute__((weak)) void race_enter(unsigned epoch);
extern __attribute__((weak)) void race_barrier(void);
extern __attribute__((weak)) void race_leave(void);
extern __attribute__((weak)) void race_join(void);
extern __attribute__((weak)) void race_lock(const void* which);
extern __attribute__((weak)) void race_unlock(void);
extern __attribute__((weak)) void race_forget(void* from, size_t size);
extern __attribute__((weak)) void race_unknown(void);

static int64_t passed;  // points that any thread came by
static __thread int left, shares;
static __thread uint32_t chance;

static void nap(long time) {
    struct timespec some = {0, time};
    nanosleep(&some, NULL);
}

// A place where a thread may be late. Who is late waits until the others get no further.
static UNSEEN void point(void) {
    int64_t now = __atomic_add_fetch(&passed, 1, __ATOMIC_RELAXED);
    if (!trivium_late || left <= 0) {
        return;
    }
    chance = chance * 1664525 + 1013904223;
    if (trivium_late > 0 ? __real_omp_get_thread_num() != trivium_late - 1 : chance >> 30 != 0) {
        return;
    }
    left--;
    for (int k = 0; k < LONGER; k++) {
        nap(NAP);
        int64_t then = __atomic_load_n(&passed, __ATOMIC_RELAXED);
        if (then == now) {
            break;
        }
        now = then;
    }
}

// A part of a loop was handed out.
static UNSEEN void part(void) {
    if (trivium_even && shares-- > 0) {
        nap(TURN);
    }
    point();
}

// The stack that the caller's next functions will use, filled.
__attribute__((noinline)) UNSEEN void trivium_dirty(void) {
    char below[STACK];
    if (trivium_fill >= 0) {
        memset(below, trivium_fill, STACK);
        __asm__ volatile("" : : "r"(below) : "memory");
    }
}

typedef struct {
    void (*work)(void*);
    void* data;
    unsigned epoch;
} Team;

static UNSEEN void member(void* given) {
    Team team = *(Team*)given;
    left = NAPS;
    shares = SHARES;
    int number = __real_omp_get_thread_num();
    chance = (uint32_t)(-trivium_late * 7919 + number * 104729 + trivium_regions);
    chance = (chance ^ chance >> 13) * 2654435761u;
    if (race_enter) {
        race_enter(team.epoch);
    }
    trivium_dirty();
    point();
    team.work(team.data);
    if (race_leave) {
        race_leave();
    }
    left = 0;
}

static Team team_of(void (*work)(void*), void* data) {
    __atomic_add_fetch(&trivium_regions, 1, __ATOMIC_RELAXED);
    if (race_unknown && omp_get_level() > 0) {
        race_unknown();
    }
    return (Team){work, data, race_fork ? race_fork() : 0};
}

static unsigned granted(unsigned asked) {
    unsigned most = (unsigned)trivium_most;
    return most && (!asked || asked > most) ? most : asked;
}

#define TEAM(call) \
    Team team = team_of(work, data); \
    call; \
    if (race_join) { \
        race_join(); \
    }

WRAP(void, GOMP_parallel, void (*work)(void*), void* data, unsigned count, unsigned flags) {
    TEAM(__real_GOMP_parallel(member, &team, granted(count), flags))
}

WRAP(unsigned, GOMP_parallel_reductions, void (*work)(void*), void* data, unsigned count,
     unsigned flags) {
    if (race_unknown) {  // its data begins with what the runtime wants: no going through `member`
        race_unknown();
    }
    return __real_GOMP_parallel_reductions(work, data, granted(count), flags);
}

WRAP(void, GOMP_parallel_sections, void (*work)(void*), void* data, unsigned count, unsigned parts,
     unsigned flags) {
    TEAM(__real_GOMP_parallel_sections(member, &team, granted(count), parts, flags))
}

#define PARALLEL_LOOP(kind) \
    WRAP(void, GOMP_parallel_loop_##kind, void (*work)(void*), void* data, unsigned count, \
         long start, long end, long step, long chunk, unsigned flags) { \
        TEAM(__real_GOMP_parallel_loop_##kind(member, &team, granted(count), start, end, step, \
                                              chunk, flags)) \
    }
#define PARALLEL_LOOP_AT_RUN_TIME(kind) \
    WRAP(void, GOMP_parallel_loop_##kind, void (*work)(void*), void* data, unsigned count, \
         long start, long end, long step, unsigned flags) { \
        TEAM(__real_GOMP_parallel_loop_##kind(member, &team, granted(count), start, end, step, \
                                              flags)) \
    }
PARALLEL_LOOP(static)
PARALLEL_LOOP(dynamic)
PARALLEL_LOOP(guided)
PARALLEL_LOOP(nonmonotonic_dynamic)
PARALLEL_LOOP(nonmonotonic_guided)
PARALLEL_LOOP_AT_RUN_TIME(runtime)
PARALLEL_LOOP_AT_RUN_TIME(nonmonotonic_runtime)
PARALLEL_LOOP_AT_RUN_TIME(maybe_nonmonotonic_runtime)

// A thread has a number of its barriers: all of a team are past the same one.
#define BARRIER(name) \
    WRAP(void, name, void) { \
        if (race_barrier) { \
            race_barrier(); \
        } \
        __real_##name(); \
        point(); \
    }
BARRIER(GOMP_barrier)
BARRIER(GOMP_loop_end)
BARRIER(GOMP_sections_end)

#define PASSED(type, name, declared, given, how) \
    WRAP(type, name, declared) { \
        type found = __real_##name given; \
        how(); \
        return found; \
    }
#define COMMA ,
#define START long start COMMA long end COMMA long step
#define ULL _Bool up COMMA unsigned long long start COMMA unsigned long long end COMMA \
    unsigned long long step
#define TO(number) number* from COMMA number* to
#define LOOP(kind) \
    PASSED(_Bool, GOMP_loop_##kind##_start, START COMMA long chunk COMMA TO(long), \
           (start, end, step, chunk, from, to), part) \
    PASSED(_Bool, GOMP_loop_##kind##_next, TO(long), (from, to), part)
#define LOOP_AT_RUN_TIME(kind) \
    PASSED(_Bool, GOMP_loop_##kind##_start, START COMMA TO(long), (start, end, step, from, to), \
           part) \
    PASSED(_Bool, GOMP_loop_##kind##_next, TO(long), (from, to), part)
#define LOOP_ULL(kind) \
    PASSED(_Bool, GOMP_loop_ull_##kind##_start, ULL COMMA unsigned long long chunk COMMA \
           TO(unsigned long long), (up, start, end, step, chunk, from, to), part) \
    PASSED(_Bool, GOMP_loop_ull_##kind##_next, TO(unsigned long long), (from, to), part)
LOOP(static)
LOOP(dynamic)
LOOP(guided)
LOOP(nonmonotonic_dynamic)
LOOP(nonmonotonic_guided)
LOOP_AT_RUN_TIME(runtime)
LOOP_AT_RUN_TIME(nonmonotonic_runtime)
LOOP_AT_RUN_TIME(maybe_nonmonotonic_runtime)
LOOP_ULL(dynamic)
LOOP_ULL(guided)
LOOP_ULL(nonmonotonic_dynamic)
LOOP_ULL(nonmonotonic_guided)
PASSED(unsigned, GOMP_sections_start, unsigned count, (count), part)
PASSED(unsigned, GOMP_sections_next, void, (), part)
PASSED(_Bool, GOMP_single_start, void, (), point)
// A static loop asks this one for its share, and waits nowhere else before it.
PASSED(int, omp_get_thread_num, void, (), point)

WRAP(void, GOMP_loop_end_nowait, void) {
    __real_GOMP_loop_end_nowait();
    point();
}

#define LOCK(start, end, declared, given, which) \
    WRAP(void, start, declared) { \
        point(); \
        __real_##start given; \
        if (race_lock) { \
            race_lock(which); \
        } \
    } \
    WRAP(void, end, declared) { \
        if (race_unlock) { \
            race_unlock(); \
        } \
        __real_##end given; \
    }
LOCK(GOMP_critical_start, GOMP_critical_end, void, (), "critical")
LOCK(GOMP_critical_name_start, GOMP_critical_name_end, void** name, (name), name)
LOCK(GOMP_atomic_start, GOMP_atomic_end, void, (), "atomic")
LOCK(GOMP_ordered_start, GOMP_ordered_end, void, (), "ordered")
LOCK(omp_set_lock, omp_unset_lock, omp_lock_t* lock, (lock), lock)

// A thread of the kernel's own begins when its creator is long past.
typedef struct {
    void* (*work)(void*);
    void* data;
} Own;

static void* own(void* given) {
    Own job = *(Own*)given;
    extern void __real_free(void*);
    __real_free(given);
    for (int k = 0; trivium_late && k < 3; k++) {
        nap(NAP);
    }
    return job.work(job.data);
}

WRAP(int, pthread_create, pthread_t* thread, const pthread_attr_t* how, void* (*work)(void*),
     void* data) {
    extern void* __real_malloc(size_t);
    Own* job = __real_malloc(sizeof *job);
    *job = (Own){work, data};
    if (race_unknown) {
        race_unknown();
    }
    return __real_pthread_create(thread, how, own, job);
}

static UNSEEN void* taken(void* p, size_t from) {
    __atomic_add_fetch(&trivium_took, 1, __ATOMIC_RELAXED);
    if (p) {
        size_t size = malloc_usable_size(p);
        __atomic_add_fetch(&trivium_kept, (int64_t)size, __ATOMIC_RELAXED);
        if (trivium_fill >= 0 && size > from) {
            memset((char*)p + from, trivium_fill, size - from);
        }
    }
    return p;
}

static UNSEEN size_t given_back(void* p) {
    size_t size = p ? malloc_usable_size(p) : 0;
    __atomic_sub_fetch(&trivium_kept, (int64_t)size, __ATOMIC_RELAXED);
    if (size && race_forget) {
        race_forget(p, size);
    }
    return size;
}

WRAP(void*, malloc, size_t size) { return taken(__real_malloc(size), 0); }

WRAP(void*, calloc, size_t count, size_t size) {
    return taken(__real_calloc(count, size), SIZE_MAX);  // all of it is zero
}

WRAP(void*, aligned_alloc, size_t align, size_t size) {
    return taken(__real_aligned_alloc(align, size), 0);
}

WRAP(void*, memalign, size_t align, size_t size) { return taken(__real_memalign(align, size), 0); }

WRAP(int, posix_memalign, void** to, size_t align, size_t size) {
    int code = __real_posix_memalign(to, align, size);
    taken(code ? NULL : *to, 0);
    return code;
}

WRAP(void*, realloc, void* p, size_t size) {
    size_t before = given_back(p);
    return taken(__real_realloc(p, size), before);
}

WRAP(void, free, void* p) {
    size_t size = given_back(p);
    if (size && trivium_fill >= 0) {
        memset(p, trivium_fill, size);
    }
    __real_free(p);
}
