"""The emulated device's C++ side: `build` compiles it, `faults` reads what it found.

    emulated.h, include/   CUDA C++ for g++: words of the language, threads, memory, numbers; what
                           is not there does not compile
    runtime.cpp            a launch: its blocks one after the other; their barrier
    schedule.cpp           every CUDA thread of a block a fiber, and which of them goes on
    warps.cpp              shuffles, votes, tensor cores, asynchronous copies
    checks.cpp             every access: inside a buffer, aligned, written before, ordered
    memory.cpp, hooks.cpp  the buffers; what the compiler's instrumentation calls
    faults.cpp             what went wrong, where; illegal addresses; launches that never end

What it does not see: results that lean on a GPU's own rounding (fused multiply-add, fast functions,
the order in a tensor core's sum), registers and occupancy, waiting for another block (a launch that
does so ends as a hang), an overrun from one shared array into another that lies further than 64
bytes behind it.
"""
