// Loads and stores with cache hints (plain ones here) and atomic operations.
#pragma once

#define EMULATED_LOAD(name) \
    template <class T> EMULATED_INLINE T name(const T* from) { return *from; }
#define EMULATED_STORE(name) \
    template <class T> EMULATED_INLINE void name(T* to, std::common_type_t<T> x) { *to = x; }
EMULATED_LOAD(__ldg)
EMULATED_LOAD(__ldca)
EMULATED_LOAD(__ldcg)
EMULATED_LOAD(__ldcs)
EMULATED_LOAD(__ldcv)
EMULATED_LOAD(__ldlu)
EMULATED_STORE(__stcg)
EMULATED_STORE(__stcs)
EMULATED_STORE(__stwb)
EMULATED_STORE(__stwt)

// Fibers give way nowhere in here, so reading and writing in turn is atomic. Bytes are copied: a
// type's own assignment would be checked as a plain access.
#define EMULATED_ATOMIC_BODY(type, result)                                                      \
    emulated::touch(at, sizeof(type), emulated::Access::atomic, __builtin_return_address(0));   \
    type old, next;                                                                             \
    __builtin_memcpy(&old, at, sizeof(type));                                                   \
    next = static_cast<type>(result);                                                           \
    __builtin_memcpy(at, &next, sizeof(type));                                                  \
    return old;
#define EMULATED_ATOMIC(name, result)                                              \
    template <class T> EMULATED_APART T name(T* at, std::common_type_t<T> value) { \
        EMULATED_ATOMIC_BODY(T, result)                                            \
    }
EMULATED_ATOMIC(atomicAdd, old + value)
EMULATED_ATOMIC(atomicSub, old - value)
EMULATED_ATOMIC(atomicExch, value)
EMULATED_ATOMIC(atomicMin, old < value ? old : value)
EMULATED_ATOMIC(atomicMax, old > value ? old : value)
EMULATED_ATOMIC(atomicAnd, old & value)
EMULATED_ATOMIC(atomicOr, old | value)
EMULATED_ATOMIC(atomicXor, old ^ value)
EMULATED_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMULATED_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
template <class T>
EMULATED_APART T atomicCAS(T* at, std::common_type_t<T> expected, std::common_type_t<T> value) {
    EMULATED_ATOMIC_BODY(T, old == expected ? value : old)
}
// A pair (or four) is added number by number.
#define EMULATED_ATOMIC_VECTOR(type, sum)                                          \
    template <> EMULATED_APART inline type atomicAdd<type>(type* at, type value) { \
        EMULATED_ATOMIC_BODY(type, sum)                                            \
    }
EMULATED_ATOMIC_VECTOR(__nv_bfloat162, __hadd2(old, value))
EMULATED_ATOMIC_VECTOR(float2, make_float2(old.x + value.x, old.y + value.y))
EMULATED_ATOMIC_VECTOR(float4, make_float4(old.x + value.x, old.y + value.y, old.z + value.z,
                                           old.w + value.w))

EMULATED_INLINE size_t __cvta_generic_to_shared(const void* p) { return (size_t)p; }
