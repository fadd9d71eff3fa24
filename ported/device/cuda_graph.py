"""Many calls as one CUDA graph: captured from the stream once, launched with one call after that.

PyCUDA has no graphs. cuda.bindings captures what PyCUDA and the vendor libraries put on PyCUDA's
stream; nothing runs meanwhile. The capture is relaxed, so that a library that loads a kernel on
its first use may do so.
"""

import weakref
from collections.abc import Callable, Sequence

from ported.device import DeviceError
from ported.device.cuda_launch import Call, checked


def captured(device, calls: Sequence[Callable[[], object]]) -> Call:
    """One call that launches all of `calls` in their order. DeviceError names the call that cannot
    be captured; the stream is as before then."""
    cu = device.card.bindings
    stream = cu.CUstream(device.stream.handle)
    checked(cu, cu.cuStreamBeginCapture(
        stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
    names = []
    device.capturing = True
    try:
        for k, call in enumerate(calls):
            _capture(device, cu, stream, k, call)
            names.append(device.recent[-1] if device.recent else "")
        graph = checked(cu, cu.cuStreamEndCapture(stream))
    except BaseException:
        _abandon(cu, stream)
        raise
    finally:
        device.capturing = False
    try:
        executable = checked(cu, cu.cuGraphInstantiate(graph, 0))
    except DeviceError as error:
        raise DeviceError(f"cuda: a graph of {len(names)} calls is refused: {error}") from error
    finally:
        cu.cuGraphDestroy(graph)
    cu.cuGraphUpload(executable, stream)
    known = f"graph of {len(names)} calls, {' .. '.join(names[:1] + names[1:][-1:])}"
    call = Graph(device, known, lambda: checked(cu, cu.cuGraphLaunch(executable, stream)))
    call.kept = tuple(calls)
    weakref.finalize(call, cu.cuGraphExecDestroy, executable).atexit = False
    return call


class Graph(Call):
    """The call of a graph; keeps what its nodes refer to."""

    __slots__ = ("__weakref__", "kept")


def _capture(device, cu, stream, k: int, call: Callable[[], object]) -> None:
    """Captures one call. What breaks a capture without an error of its own is seen here too."""
    try:
        call()
        status = checked(cu, cu.cuStreamIsCapturing(stream))
    except Exception as error:
        raise DeviceError(f"cuda: call {k} cannot be captured into a graph: {error}") from error
    if status != cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE:
        name = device.recent[-1] if device.recent else "unnamed"
        raise DeviceError(f"cuda: call {k} ({name}) cannot be captured into a graph: it waits, "
                          "allocates or uses another stream; expected work on the device's stream "
                          "only")


def _abandon(cu, stream) -> None:
    """Ends a capture that failed, so that the stream works again."""
    _, graph = cu.cuStreamEndCapture(stream)
    if graph is not None and int(graph):
        cu.cuGraphDestroy(graph)


__all__ = ["captured"]
