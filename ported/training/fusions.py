"""Which fused operations a run uses: what proofs and timings say, and nothing else.

`--fuse auto` begins with every rewrite of `rewrites.ALL` and looks at one after the other: without
it some steps of the program are others. It stays out where it has a step that no proved kernel does
while those others have kernels, and where the timings of the fastest proved kernels, on this very
processor, add up to more with it than without. Where a timing is missing it stays: fused is what a
fusion is written for. A rewrite that names no operation of its own is always taken. The kernel lock
keeps the answer, so that a resumed run does not ask again.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ported.contract import Contract
from ported.evidence import Shelf, seconds
from ported.executor import axes_of, contracts_of
from reference import rewrites
from reference.program import Program

Build = Callable[[Sequence[str]], Program]  # names of rewrites -> the program


def decided(build: Build, device, use: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of rewrites, in the order of `rewrites.ALL`. `use`: versions taken by hand; an
    operation of theirs is fused, and judged by them."""
    taken = list(rewrites.ALL)
    shelf = Shelf({}, device, use)
    for name in rewrites.ALL:
        if name not in rewrites.FUSIONS or name in shelf.forced:
            continue
        others = [other for other in taken if other != name]
        fused, apart = build(taken), build(others)
        shelf.contracts = {**shelf.contracts, **contracts_of(fused), **contracts_of(apart)}
        ours, theirs = _steps(fused, shelf.contracts), _steps(apart, shelf.contracts)
        if not _pays(ours, theirs, shelf):
            taken = others
    return tuple(taken)


def _steps(program: Program, contracts: Mapping[str, Contract]) -> Counter:
    """(operation, axes) -> how many such steps the program has."""
    return Counter((step.op, tuple(sorted(axes_of(program, step, contracts).items())))
                   for steps in program.passes.values() for step in steps if step.op != "zero")


def _pays(fused: Counter, apart: Counter, shelf: Shelf) -> bool:
    """Whether the steps that only `fused` has are worth it against those that only `apart` has."""
    def proved(steps: Counter) -> bool:
        return all(shelf.proved(name, dict(axes)) for name, axes in steps)

    def time(steps: Counter) -> float | None:
        found = {step: seconds(shelf.proved(step[0], dict(step[1])), shelf.contracts[step[0]],
                               dict(step[1]), shelf.device) for step in steps}
        return None if None in found.values() else sum(
            count * found[step] for step, count in steps.items())
    ours, theirs = fused - apart, apart - fused
    if not proved(ours) or not proved(theirs):
        return proved(ours) or not proved(theirs)
    with_it, without = time(ours), time(theirs)
    return with_it is None or without is None or with_it <= without


def of_lock(lock: Mapping) -> tuple[str, ...]:
    """What a kernel lock keeps; of one that is older than that, what its kernels show."""
    if "fusions" in lock:
        return tuple(lock["fusions"])
    used = {key.partition(" ")[0] for key in lock["kernels"]}
    return tuple(name for name in rewrites.ALL if name in used or name not in rewrites.FUSIONS)


__all__ = ["decided", "of_lock"]
