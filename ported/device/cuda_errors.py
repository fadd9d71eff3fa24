"""What went wrong on the GPU, in words that name the kernels.

CUDA reports a kernel's fault at some later call, and after it the context is lost: no call of this
process works again, torch's neither. So the message names the last launches, and how to find the
one among them: a traced run waits after every launch.
"""

from collections.abc import Iterable

from ported.device import DeviceError

TRACE = "TRIVIUM_TRACE"
LIMIT = "TRIVIUM_GPU_LIMIT"


class DeviceGone(DeviceError):
    """The context is lost (illegal access, failed launch) or a kernel hangs: end this process.

    After a hang nothing that waits for the GPU returns, not even freeing; a process that ends in
    the usual way is cut short where the context would be given back (exit code 1)."""


def _last(recent: Iterable[str]) -> str:
    return ", ".join(list(recent)[-8:]) or "nothing was launched"


def lost(error: Exception, doing: str, recent: Iterable[str], traced: bool) -> DeviceGone:
    """The fault that a wait found. A traced run waited after every launch, so it is the last."""
    if traced:
        return DeviceGone(f"cuda: {doing}: {error}. The process has lost the GPU; start it again")
    return DeviceGone(
        f"cuda: while {doing}: {error}. The process has lost the GPU. Suspected, the last "
        f"launched: {_last(recent)}. To see which: run the same command with {TRACE}=1, which "
        "waits after every launch; for the address, under compute-sanitizer")


def hung(limit: float, recent: Iterable[str]) -> DeviceGone:
    """No end of the work within the limit."""
    return DeviceGone(
        f"cuda: the GPU was not done after {limit:g} s; a kernel hangs, or the limit is short. "
        f"The last launched: {_last(recent)}. End this process; run with {TRACE}=1 to see which, "
        f"or {LIMIT}=600 for a longer limit")


def refused(error: Exception, doing: str) -> DeviceError:
    """A call that the driver refused and that broke nothing else."""
    return DeviceError(f"cuda: {doing}: {error}")


__all__ = ["LIMIT", "TRACE", "DeviceGone", "hung", "lost", "refused"]
