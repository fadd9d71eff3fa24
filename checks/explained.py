"""Each check, and each family of numbers, in a plain sentence: for readers of a report who have
never seen the project."""

CHECKS = {
    "gate": "Every element is compared with the same operation computed in float64; the allowed "
            "error is measured on honest arithmetic of the declared precision, not typed in.",
    "shapes": "The comparison over shapes: one, tiles, tiles plus and minus one, primes, many "
              "short rows, few long ones, GPT-2's own.",
    "values": "The comparison over unlike numbers: huge, tiny, constant, sorted, outliers, "
              "denormals, infinities, rows of mixed kind.",
    "poison": "Outputs and scratch hold NaN, then huge numbers, then random bytes before the "
              "launch; none of it may show in the result.",
    "accumulate": "Outputs that are to be added to are (from zero, from random numbers, twice in a "
                  "row); all others are overwritten.",
    "frozen": "Inputs are, bit for bit, what they were before the launch.",
    "guards": "The memory around every buffer is neither written nor read.",
    "pointers": "Buffers may begin at any element, not only at aligned addresses.",
    "exact": "On whole numbers whose sums are exact in float32 the result is exact, bit for bit.",
    "self_test": "Wrong results made on purpose (zeros, a shifted row, one NaN, ...) are refused: "
                 "the comparison itself is tried.",
    "laws": "What holds of the mathematics holds of the kernel: rows do not know of each other, "
            "scaling, what depends on what, gradients against the forward's derivative.",
    "three_ways": "Two independent references, PyTorch and formulas written out, agree in float64 "
                  "on the same inputs.",
    "nothing_trivial": "No output is the same number throughout in every case.",
    "claims": "What the file promises is so: the same bits in every run and for every number of "
              "threads, a row's bits whatever else is in the batch.",
    "sequence": "Launches do not know of each other: other contents, shapes and addresses, many "
                "in a row, and back again.",
    "inplace": "Where the file says that an output may lie on an input, it gives the same there.",
    "launch": "Every launch is accepted and ends without an error of the device.",
    "schedule": "Threads and blocks take their turns in other orders, or the launch is repeated "
                "many times; the result stays.",
    "sanitizers": "Every access of every thread is inside its buffer, aligned, of memory that was "
                  "written, and ordered against the others' (no race).",
    "artifact": "The compiled machine code has no atomics, tensor-core modes or spilled registers "
                "that the file does not own up to.",
    # The deep tier's own.
    "scalars": "Constants and scalars over decades, a million steps of the optimizer: the "
               "comparison holds there, too.",
    "extremes": "NaN and infinities stand where another input is largest, smallest or nearest "
                "zero, and come through as the mathematics says.",
    "largest": "Rows near the end of what float32 can hold.",
    "smallest": "Rows whose squares are near the least that float32 can hold.",
    "races": "Every access of every thread of a C kernel is ordered against the others'.",
    "late": "One thread of a team after the other comes late, in teams of up to 70; the result "
            "stays, and nothing is written after the return.",
    "environment": "Fewer threads than asked for, dirty heap and stack, 70 000 calls: the result "
                   "stays, and the kernel keeps no memory, thread or file.",
    "leftovers": "A call on nearly the same inputs, or on others, made before on the same memory, "
                 "leaves nothing that the next one takes for its own.",
    "round": "Sizes that tiles divide, and all axes beyond a tile at once; teams of 4 to 64.",
    "size": "Indices beyond 2^16, 2^24 and 2^31, and launches larger than any grid.",
    "processors": "The same result on devices of 1, 37, 132 and 260 multiprocessors.",
    "pipelines": "Loops that load ahead run through more stages than they have room for, with "
                 "every access ordered.",
    "draws": "Random roundings of other steps, seeds and neighbours have nothing in common.",
}
FAMILIES = {
    "randn": "normal numbers of drawn scale", "unit": "normal numbers around 1",
    "mean1000": "a mean of about 1000", "tiny": "1e-12 to 1e-6", "huge": "1e4 to 1e9",
    "squares": "float32 overflows where it squares", "outlier": "one outlier a row",
    "constant": "constant rows", "equal": "all equal", "onehot": "one nonzero a row",
    "sorted": "sorted rows", "offset": "an offset of 1e4", "negative": "far below zero",
    "large": "scores that a softmax saturates on", "neginf": "some are minus infinity",
    "repeated": "every index the same", "denormal": "below float32's normal range",
    "mixed": "rows of unlike kind", "integer": "small whole numbers",
    "largest": "constant rows near the end of float32",
    "smallest": "1e-18 to 1e-15",
}
