// Barriers of a block, operations of a warp. Everything here is inlined, so that the runtime sees
// the kernel's own line as its caller.
#pragma once

EMULATED_INLINE void __syncthreads(int line = __builtin_LINE()) {
    emulated::barrier(false, emulated::Vote::any, line);
}
EMULATED_INLINE int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::count, line);
}
EMULATED_INLINE int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::all, line);
}
EMULATED_INLINE int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::any, line);
}
EMULATED_INLINE void __syncwarp(unsigned mask = 0xffffffffu) { emulated::warp_barrier(mask); }

namespace emulated {
template <class T> EMULATED_INLINE T exchange(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = shuffle(mask, bits, source);
    T result;
    std::memcpy(&result, &bits, sizeof(T));
    return result;
}
}  // namespace emulated

// A warp is cut into segments of `width` lanes; a source outside the own segment means oneself.
template <class T>
EMULATED_INLINE T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    unsigned lane = emulated::state.self->lane, start = lane & ~(width - 1);
    return emulated::exchange(mask, value, start | (source & (width - 1)));
}
template <class T>
EMULATED_INLINE T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
    unsigned lane = emulated::state.self->lane, source = lane ^ with;
    bool inside = source < (lane & ~(width - 1)) + width;
    return emulated::exchange(mask, value, inside ? source : lane);
}
template <class T>
EMULATED_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned away, int width = 32) {
    unsigned lane = emulated::state.self->lane, source = lane + away;
    bool inside = source < (lane & ~(width - 1)) + width;
    return emulated::exchange(mask, value, inside ? source : lane);
}
template <class T>
EMULATED_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned away, int width = 32) {
    unsigned lane = emulated::state.self->lane;
    bool inside = lane >= (lane & ~(width - 1)) + away;
    return emulated::exchange(mask, value, inside ? lane - away : lane);
}

EMULATED_INLINE unsigned __ballot_sync(unsigned mask, int predicate) {
    return emulated::reduce(mask, predicate != 0, emulated::Reduction::ballot);
}
EMULATED_INLINE int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
EMULATED_INLINE int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == mask;
}
EMULATED_INLINE unsigned __activemask() {
    emulated::fault("mask", "__activemask is no set of lanes to rely on; name the lanes");
}
#define EMULATED_REDUCE(name, type, reduction)                                          \
    EMULATED_INLINE type name(unsigned mask, type value) {                              \
        return (type)emulated::reduce(mask, (unsigned)value, emulated::Reduction::reduction); \
    }
EMULATED_REDUCE(__reduce_add_sync, unsigned, add)
EMULATED_REDUCE(__reduce_add_sync, int, add)
EMULATED_REDUCE(__reduce_min_sync, unsigned, min)
EMULATED_REDUCE(__reduce_min_sync, int, min_signed)
EMULATED_REDUCE(__reduce_max_sync, unsigned, max)
EMULATED_REDUCE(__reduce_max_sync, int, max_signed)
EMULATED_REDUCE(__reduce_and_sync, unsigned, bit_and)
EMULATED_REDUCE(__reduce_or_sync, unsigned, bit_or)
EMULATED_REDUCE(__reduce_xor_sync, unsigned, bit_xor)

template <class T> EMULATED_INLINE unsigned __match_any_sync(unsigned mask, T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return emulated::match(mask, bits, false);
}
template <class T>
EMULATED_INLINE unsigned __match_all_sync(unsigned mask, T value, int* predicate) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    unsigned same = emulated::match(mask, bits, true);
    *predicate = same != 0;
    return same;
}

EMULATED_INLINE void __threadfence() { emulated::fence(); }
EMULATED_INLINE void __threadfence_system() { emulated::fence(); }
EMULATED_INLINE void __threadfence_block() {}
EMULATED_INLINE void __nanosleep(unsigned) {}
EMULATED_INLINE void __trap() { emulated::fault("trap", "the kernel called __trap"); }
#undef assert
#define assert(condition) \
    ((condition) ? void() : emulated::fault("trap", "assertion failed: %s", #condition))
