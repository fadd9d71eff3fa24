// cooperative_groups for the emulated device: the block, tiles of a warp, reductions over a tile.
#pragma once

namespace cooperative_groups {

struct thread_block {
    EMULATED_INLINE void sync(int line = __builtin_LINE()) const { __syncthreads(line); }
    static unsigned thread_rank() { return emulated::state.self->linear; }
    static unsigned size() { return blockDim.x; }
    static unsigned num_threads() { return blockDim.x; }
    static dim3 group_index() { return dim3(blockIdx.x, blockIdx.y, blockIdx.z); }
    static dim3 thread_index() { return dim3(threadIdx.x, threadIdx.y, threadIdx.z); }
};
EMULATED_INLINE thread_block this_thread_block() { return {}; }

// `size_` neighbouring lanes; tiles lie side by side in a warp.
template <unsigned size_, class Parent = thread_block> struct thread_block_tile {
    static_assert(size_ <= 32 && (size_ & (size_ - 1)) == 0, "a tile is 1, 2, 4 .. 32 lanes");
    static unsigned first_lane() { return emulated::state.self->lane & ~(size_ - 1); }
    static unsigned mask() { return (size_ == 32 ? ~0u : (1u << size_ % 32) - 1) << first_lane(); }
    static unsigned thread_rank() { return emulated::state.self->lane & (size_ - 1); }
    static constexpr unsigned size() { return size_; }
    static constexpr unsigned num_threads() { return size_; }
    static unsigned meta_group_rank() { return emulated::state.self->linear / size_; }
    static unsigned meta_group_size() { return (blockDim.x + size_ - 1) / size_; }
    EMULATED_INLINE void sync() const { __syncwarp(mask()); }
    template <class T> EMULATED_INLINE T shfl(T value, int source) const {
        return __shfl_sync(mask(), value, source, size_);
    }
    template <class T> EMULATED_INLINE T shfl_xor(T value, int with) const {
        return __shfl_xor_sync(mask(), value, with, size_);
    }
    template <class T> EMULATED_INLINE T shfl_down(T value, unsigned away) const {
        return __shfl_down_sync(mask(), value, away, size_);
    }
    template <class T> EMULATED_INLINE T shfl_up(T value, unsigned away) const {
        return __shfl_up_sync(mask(), value, away, size_);
    }
    EMULATED_INLINE unsigned ballot(int predicate) const {
        return __ballot_sync(mask(), predicate) >> first_lane();
    }
    EMULATED_INLINE int any(int predicate) const { return ballot(predicate) != 0; }
    EMULATED_INLINE int all(int predicate) const {
        return ballot(predicate) == mask() >> first_lane();
    }
    template <class T> EMULATED_INLINE unsigned match_any(T value) const {
        return __match_any_sync(mask(), value) >> first_lane();
    }
};
template <unsigned size, class Parent>
EMULATED_INLINE thread_block_tile<size, Parent> tiled_partition(const Parent&) {
    return {};
}
EMULATED_INLINE void sync(const thread_block& group, int line = __builtin_LINE()) {
    group.sync(line);
}
template <unsigned size, class Parent>
EMULATED_INLINE void sync(const thread_block_tile<size, Parent>& group) {
    group.sync();
}

template <class T> struct plus {
    T operator()(T a, T b) const { return a + b; }
};
template <class T> struct less {  // the lesser one, as in CUDA's header
    T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T> struct greater {
    T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T> struct bit_and {
    T operator()(T a, T b) const { return a & b; }
};
template <class T> struct bit_or {
    T operator()(T a, T b) const { return a | b; }
};
template <class T> struct bit_xor {
    T operator()(T a, T b) const { return a ^ b; }
};
// A butterfly of shuffles, so that sums have the order that they have there.
template <unsigned size, class Parent, class T, class Operation>
EMULATED_INLINE T reduce(const thread_block_tile<size, Parent>& group, T value,
                         Operation operation) {
    for (unsigned away = size / 2; away > 0; away /= 2)
        value = operation(value, group.shfl_xor(value, away));
    return value;
}

}  // namespace cooperative_groups
