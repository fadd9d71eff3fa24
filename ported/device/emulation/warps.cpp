// Operations of a warp: shuffles, votes, reductions, tensor cores; and asynchronous copies.
#include "internal.h"
#include <algorithm>
#include <cstring>

namespace emulated {

namespace {

void* arguments[32];  // of a complete operation, by lane (here, to keep fibers' stacks small)

void check_mask(unsigned mask, const char* name) {
    const Thread& me = self();
    unsigned count = std::min(32u, block_threads - me.warp * 32);
    if (!(mask >> me.lane & 1))
        fault("mask", "%s at {at}: lane %u calls it and is not in its mask 0x%08x", name, me.lane,
              mask);
    if (count < 32 && mask >> count)
        fault("mask", "%s at {at}: the mask 0x%08x names lanes that the block does not have (the "
              "warp has %u)", name, mask, count);
    if (unsigned gone = mask & returned_lanes[me.warp])
        fault("mask", "%s at {at}: the mask 0x%08x names lane %d, which has returned", name, mask,
              __builtin_ctz(gone));
}

// Whether all lanes of `mask` wait in this very operation; a lane that waits for this one in
// another is a fault.
bool complete(unsigned mask, int operation, const char* name) {
    Thread& me = self();
    std::fill(arguments, arguments + 32, nullptr);
    bool all = true;
    for (unsigned lanes = mask; lanes; lanes &= lanes - 1) {
        unsigned lane = __builtin_ctz(lanes);
        Thread& other = threads[me.warp * 32 + lane];
        bool same = other.meets && other.operation == operation && other.mask == mask;
        if (other.meets && !same && (other.mask >> me.lane & 1)) {
            void* places[MOST_PLACES];
            int found = walk(other.waits_frame, other, places);
            fault_against("mask", nullptr, block_number, other.linear, places, found,
                          "%s with mask 0x%08x at {at} meets lane %u in %s with mask 0x%08x at "
                          "{other}", name, mask, lane, other.waits_for, other.mask);
        }
        all &= same;
        arguments[lane] = other.argument;
    }
    return all;
}

// Every lane of `mask` leaves its argument; the last to come runs `together` over all of them, by
// lane, and wakes the others.
template <class Together>
void meet(unsigned mask, int operation, const char* name, void* argument, Together together) {
    settle();
    look_at_clock();
    check_mask(mask, name);
    Thread& me = self();
    me.meets = true;
    me.mask = mask;
    me.operation = operation;
    me.argument = argument;
    unsigned& meeting = meeting_lanes[me.warp];
    meeting++;
    if (meeting < static_cast<unsigned>(__builtin_popcount(mask)) ||
        !complete(mask, operation, name))
        return park(name, __builtin_frame_address(0));
    together(arguments);
    for (unsigned lanes = mask; lanes; lanes &= lanes - 1) {
        Thread& other = threads[me.warp * 32 + __builtin_ctz(lanes)];
        other.meets = false;
        meeting--;
        if (&other != &me) wake(other);
    }
}

}  // namespace

void warp_barrier(unsigned mask) {
    Thread* lanes = &threads[self().warp * 32];
    // Each lane learns what the others have seen, and all of them what each has done.
    meet(mask, 0, "__syncwarp", nullptr, [mask, lanes](void**) {
        unsigned seen[32] = {};
        for (unsigned lane = 0; lane < 32; lane++)
            if (mask >> lane & 1) {
                for (unsigned i = 0; i < 32; i++)
                    seen[i] = std::max(seen[i], lanes[lane].seen[i]);
                seen[lane] = std::max(seen[lane], lanes[lane].clock);
            }
        for (unsigned lane = 0; lane < 32; lane++)
            if (mask >> lane & 1) {
                std::copy(seen, seen + 32, lanes[lane].seen);
                lanes[lane].clock++;
            }
    });
}

uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source) {
    struct Offer {
        uint64_t bits, result;
        unsigned source;
    } offer{bits, bits, source & 31};
    meet(mask, 1, "a shuffle", &offer, [](void** arguments) {
        for (int lane = 0; lane < 32; lane++)
            if (auto* taker = static_cast<Offer*>(arguments[lane])) {
                auto* giver = static_cast<Offer*>(arguments[taker->source]);
                if (!giver)
                    fault("mask", "a shuffle: lane %d reads lane %u, which is not in the mask",
                          lane, taker->source);
                taker->result = giver->bits;
            }
    });
    return offer.result;
}

unsigned reduce(unsigned mask, unsigned value, Reduction reduction) {
    struct Offer {
        unsigned value, result;
    } offer{value, 0};
    const char* name = reduction == Reduction::ballot ? "a vote" : "__reduce_sync";
    meet(mask, 2 + static_cast<int>(reduction), name, &offer, [reduction](void** arguments) {
        unsigned result = 0;
        bool begun = false;
        for (int lane = 0; lane < 32; lane++) {
            if (!arguments[lane]) continue;
            unsigned x = static_cast<Offer*>(arguments[lane])->value;
            if (reduction == Reduction::ballot) x = (x != 0) << lane;
            int was = static_cast<int>(result), is = static_cast<int>(x);
            if (!begun) result = x;
            else switch (reduction) {
                case Reduction::add: result += x; break;
                case Reduction::min: result = std::min(result, x); break;
                case Reduction::max: result = std::max(result, x); break;
                case Reduction::min_signed: result = std::min(was, is); break;
                case Reduction::max_signed: result = std::max(was, is); break;
                case Reduction::bit_and: result &= x; break;
                case Reduction::bit_xor: result ^= x; break;
                case Reduction::bit_or:
                case Reduction::ballot: result |= x; break;
            }
            begun = true;
        }
        for (int lane = 0; lane < 32; lane++)
            if (arguments[lane]) static_cast<Offer*>(arguments[lane])->result = result;
    });
    return offer.result;
}

unsigned match(unsigned mask, uint64_t bits, bool all) {
    struct Offer {
        uint64_t bits;
        unsigned result;
    } offer{bits, 0};
    meet(mask, 20 + all, "__match_sync", &offer, [mask, all](void** arguments) {
        for (int lane = 0; lane < 32; lane++) {
            auto* one = static_cast<Offer*>(arguments[lane]);
            if (!one) continue;
            for (int i = 0; i < 32; i++)
                if (arguments[i] && static_cast<Offer*>(arguments[i])->bits == one->bits)
                    one->result |= 1u << i;
            if (all && one->result != mask) one->result = 0;
        }
    });
    return offer.result;
}

// ---- tensor cores
// Lane l names row l % 8 of matrix l / 8, and gets elements 2 c and 2 c + 1 of row r of each, with
// l = 4 r + c (transposed: of column r).
void load_matrix(unsigned* registers, int count, bool transposed, const void* row) {
    struct Offer {
        const unsigned char* row;
        unsigned* registers;
    } offer{static_cast<const unsigned char*>(row), registers};
    if (static_cast<int>(self().lane) < 8 * count) {
        if (reinterpret_cast<size_t>(row) % 16)
            fault("misaligned", "ldmatrix: a row at an address that is no multiple of 16");
        touch(row, 16, Access::read, __builtin_return_address(0));
    }
    meet(0xffffffffu, 30 + 2 * count + transposed, "ldmatrix", &offer,
         [count, transposed](void** arguments) {
             for (int lane = 0; lane < 32; lane++)
                 for (int matrix = 0; matrix < count; matrix++) {
                     uint16_t two[2];
                     for (int i = 0; i < 2; i++) {
                         int row = lane / 4, column = lane % 4 * 2 + i;
                         if (transposed) std::swap(row, column);
                         auto* from = static_cast<Offer*>(arguments[8 * matrix + row])->row;
                         std::memcpy(&two[i], from + 2 * column, 2);
                     }
                     static_cast<Offer*>(arguments[lane])->registers[matrix] =
                         two[0] | static_cast<unsigned>(two[1]) << 16;
                 }
         });
}

namespace {
float half_of(unsigned pair, int which) {  // one of two bfloat16, the first in the lower half
    unsigned bits = which ? pair & 0xffff0000u : pair << 16;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
}
}  // namespace

// d += a b; the layout of fragments is said at mma_16x8x16 in cuda_src/ptx.cuh. Sums run over k in
// order, in float32; tensor cores sum in an order of their own.
void multiply(float* d, const unsigned* a, const unsigned* b) {
    struct Offer {
        float* d;
        const unsigned *a, *b;
    } offer{d, a, b};
    meet(0xffffffffu, 40, "mma", &offer, [](void** arguments) {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; lane++) {
            auto* one = static_cast<Offer*>(arguments[lane]);
            int g = lane / 4, q = lane % 4;
            for (int i = 0; i < 2; i++) {
                for (int part = 0; part < 4; part++)
                    A[g + part % 2 * 8][2 * q + part / 2 * 8 + i] = half_of(one->a[part], i);
                for (int part = 0; part < 2; part++)
                    B[2 * q + part * 8 + i][g] = half_of(one->b[part], i);
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            float* sum = static_cast<Offer*>(arguments[lane])->d;
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                for (int k = 0; k < 16; k++) sum[i] += A[row][k] * B[k][column];
            }
        }
    });
}

// ---- asynchronous copies: they land when waited for, and not before
void copy_async(void* to, const void* from, unsigned bytes, unsigned given) {
    Thread& me = self();
    Copy copy{to, from, bytes, given, me.copy_group, __builtin_return_address(0), {}};
    if (reinterpret_cast<size_t>(to) % bytes || (given && reinterpret_cast<size_t>(from) % bytes))
        fault("misaligned", "cp.async of %u bytes between addresses that are no multiples of it",
              bytes);
    if (given) touch(from, given, Access::read, copy.place);
    landing(copy, false);
    std::memcpy(copy.held, from, given);
    std::memset(to, 0xff, bytes);  // NaN, until it has landed
    me.copies.push_back(copy);
}

void copy_async_commit() { self().copy_group++; }

void copy_async_wait(int left) {
    settle();
    Thread& me = self();
    auto landed = [&](const Copy& copy) {
        if (copy.group >= me.copy_group - left) return false;
        landing(copy, true);
        std::memset(copy.to, 0, copy.bytes);
        std::memcpy(copy.to, copy.from, copy.given);
        return true;
    };
    me.copies.erase(std::remove_if(me.copies.begin(), me.copies.end(), landed), me.copies.end());
}

}  // namespace emulated
