"""Closed pages around every buffer: a read past the end is found though its number is thrown away.

Such a read changes no result, so guard zones cannot show it. Here every buffer ends, then begins,
at a page that may not be touched, and such a read is a crash, blamed on the check `guards`. For C
kernels; the emulated device's flavour `addresses` looks at every access itself.
"""

import ctypes
import mmap

import numpy as np

from checks.launch import Result
from checks.trial import Trial
from ported.precision import encode

PAGE = mmap.PAGESIZE
CLOSED = 0  # PROT_NONE
_LIBC = ctypes.CDLL(None, use_errno=True)


class Fenced:
    """`nbytes` of memory between two pages that may not be touched, flush with the last of them
    or with the first."""

    def __init__(self, nbytes: int, at_end: bool):
        pages = -(-max(nbytes, 1) // PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.fences = self.start, self.start + (pages + 1) * PAGE
        for fence in self.fences:
            if _LIBC.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), CLOSED):
                raise OSError(ctypes.get_errno(), "mprotect: no page could be closed")
        self.address = self.fences[1] - nbytes if at_end else self.start + PAGE


def fences(trial: Trial, first: Result) -> None:
    """Every buffer ends at a closed page, then begins behind one; results are the same."""
    stage = trial.stage
    if stage.device.language != "c":
        return
    for at_end in (True, False):
        trial.subject.say(f"guards {trial.case} buffers {'before' if at_end else 'behind'} a "
                          "closed page")
        kept = {n: Fenced(stage.counts[n] * stage.width[n], at_end) for n in stage.counts}
        places = {name: fenced.address for name, fenced in kept.items()}
        for tensor in trial.contract.tensors:
            given = trial.inputs.get(tensor.name)
            if tensor.access != "out":
                if given is None:
                    given = np.zeros(stage.counts[tensor.name], np.float32)
                stage.device.write(places[tensor.name], encode(given, stage.dtypes[tensor.name]))
        consts = {n: trial.inputs[n] for n in trial.contract.consts if n in trial.inputs}
        stage.kernel.bind(places, consts)()
        found = Result({t.name: stage.device.read(
            places[t.name], stage.shapes[t.name], stage.dtypes[t.name])
            for t in trial.contract.outputs})
        trial.same("guards", first, found, "with closed pages around every buffer")
