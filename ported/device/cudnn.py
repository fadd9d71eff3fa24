"""Causal attention through cuDNN's graphs, on packed queries, keys and values.

A graph names tensors, their sizes and strides, and one node, scaled dot-product attention. The
library offers plans for it; one is built, once for a shape, and run with bare device addresses.
[B, T, 3*H*D] is seen as three [B, H, T, D] by strides, so nothing is moved or copied. The `Stats`
of the node are the contract's lse: maximum plus natural logarithm of the sum, of scaled scores.

cuDNN does bfloat16 here (and float16), not float32.

Source: NVIDIA, cudnn-frontend documentation, "Attention"; its Python package, version 1.32.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ported import contract
from ported.device import NotApplicable, vendor

TRIED = 6  # plans offered by `candidates`


def library():
    """The package `cudnn`; it does not import torch."""
    return vendor.imported("cudnn", "nvidia-cudnn-frontend")


_handles: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()
_graphs: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def handle(device):
    """The library's handle on the device's stream, made at its first use."""
    if device not in _handles:
        _handles[device] = library().create_handle()
        library().set_stream(_handles[device], device.stream.handle)
    return _handles[device]


@dataclass(frozen=True)
class Slot:
    """One tensor of a graph: the buffer it lies in, how many elements behind its start."""

    uid: int
    buffer: str
    offset: int = 0


class Sketch:
    """A graph being made. `slots` collects what has to be bound."""

    def __init__(self, axes: Mapping[str, int], device):
        self.cudnn, self.slots = library(), []
        self.sizes = tuple(axes[axis] for axis in ("B", "T", "H", "D"))
        types = self.cudnn.data_type
        self.low, self.full = types.BFLOAT16, types.FLOAT
        self.graph = self.cudnn.pygraph(
            name="attention", io_data_type=self.low, intermediate_data_type=self.full,
            compute_data_type=self.full, handle=handle(device))

    def heads(self, parts: int) -> dict[str, list[int]]:
        """[B, H, T, D] inside [B, T, parts*H*D]."""
        B, T, H, D = self.sizes
        return {"dim": [B, H, T, D], "stride": [T * parts * H * D, D, parts * H * D, 1]}

    def rows(self) -> dict[str, list[int]]:
        """[B, H, T, 1] as it is said to the library: one float32 a query."""
        B, T, H, _ = self.sizes
        return {"dim": [B, H, T, 1], "stride": [H * T, T, 1, 1]}

    def _slot(self, buffer: str, part: int) -> int:
        _, _, H, D = self.sizes
        self.slots.append(Slot(len(self.slots) + 1, buffer, part * H * D))
        return self.slots[-1].uid

    def given(self, name: str, buffer: str, layout: Mapping, dtype=None, part: int = 0):
        """An input; `part` of a packed buffer: 0 queries, 1 keys, 2 values."""
        return self.graph.tensor(name=name, data_type=dtype or self.low,
                                 uid=self._slot(buffer, part), **layout)

    def made(self, tensor, buffer: str, layout: Mapping, dtype=None, part: int = 0) -> None:
        """An output that lies so."""
        (tensor.set_output(True).set_data_type(dtype or self.low).set_dim(layout["dim"])
         .set_stride(layout["stride"]).set_uid(self._slot(buffer, part)))

    def packed(self) -> dict:
        """The queries, keys and values of `qkv`, and what every node of attention is told."""
        parts = {name: self.given(name, "qkv", self.heads(3), part=k)
                 for k, name in enumerate("qkv")}
        return {**parts, "attn_scale": self.sizes[3] ** -0.5, "diagonal_band_right_bound": 0,
                "diagonal_alignment": self.cudnn.diagonal_alignment.TOP_LEFT}


def forward(sketch: Sketch) -> None:
    """qkv to out and lse."""
    out, lse = sketch.graph.sdpa(**sketch.packed(), generate_stats=True, name="attention")
    sketch.made(out, "out", sketch.heads(1))
    sketch.made(lse, "lse", sketch.rows(), sketch.full)


def backward(sketch: Sketch, deterministic: bool) -> None:
    """dout, qkv, out and lse to dqkv. `deterministic`: sums in a fixed order; on Hopper that takes
    a workspace of 2 B H T^2 bytes."""
    known = {"o": sketch.given("o", "out", sketch.heads(1)),
             "dO": sketch.given("dO", "dout", sketch.heads(1)),
             "stats": sketch.given("stats", "lse", sketch.rows(), sketch.full)}
    gradients = sketch.graph.sdpa_backward(
        **sketch.packed(), **known, use_deterministic_algorithm=deterministic,
        name="attention_backward")
    for part, gradient in enumerate(gradients):
        sketch.made(gradient, "dqkv", sketch.heads(3), part=part)


class Planned:
    """A graph with the library's plans for it, best first as it thinks; one of them built."""

    def __init__(self, draw: Callable[[Sketch], None], axes: Mapping[str, int], device):
        self.sketch = Sketch(axes, device)
        draw(self.sketch)
        self.graph, modes = self.sketch.graph, self.sketch.cudnn.heur_mode
        self.where = ", ".join(f"{axis}={axes[axis]}" for axis in "BTHD")
        try:
            self.graph.validate()
            self.graph.build_operation_graph()
            self.graph.create_execution_plans([modes.A, modes.FALLBACK])
        except self.sketch.cudnn.cudnnGraphNotSupportedError as error:
            raise NotApplicable(f"cuDNN has no attention for {self.where}: {error}") from error
        # Plans without an index of the backend's are the package's own kernels in Python, which
        # need compilers that are not there.
        self.backend = [i for i, plan in enumerate(self.graph.plans) if plan.cpp_index is not None]

    def settings(self, index: int) -> dict[str, int]:
        """A plan's engine and knobs as integers."""
        engine, knobs = self.graph.get_engine_and_knobs_at_index(index)
        return {"engine": int(engine), **{f"knob_{knob.name}": int(value)
                                          for knob, value in knobs.items()}}

    def build(self, parameters: Mapping[str, int]) -> "Planned":
        """The plan that `parameters` record, or the first that the library can build."""
        wanted = [i for i in self.backend
                  if not parameters or self.settings(i) == dict(parameters)]
        failures = []
        for index in wanted:
            try:
                self.graph.select_plan(index)
                self.graph.build_plans()
                return self
            except self.sketch.cudnn.cudnnGraphNotSupportedError as error:
                failures.append(str(error))
        raise NotApplicable(f"cuDNN has no plan {dict(parameters) or ''} of attention for "
                            f"{self.where}: {'; '.join(failures) or 'none of that description'}")


class Attention:
    """A built graph as a part of a plan."""

    def __init__(self, planned: Planned, device):
        self.graph, self.slots, self.device = planned.graph, planned.sketch.slots, device
        nbytes = self.graph.get_workspace_size()
        self.scratch = {"workspace": ("float32", (-(-nbytes // 4),), False)}

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        pointers = {slot.uid: addresses[slot.buffer] + 2 * slot.offset for slot in self.slots}
        return partial(self.graph.execute, pointers, addresses["workspace"], handle(self.device))


class Graphs:
    """A version of attention: `draw` makes its graph. Graphs are kept, one a shape and plan."""

    def __init__(self, name: str, draw: Callable[[Sketch], None]):
        self.name, self.draw = name, draw

    def plan(self, axes: Mapping[str, int], parameters: Mapping[str, int], device) -> vendor.Plan:
        known = _graphs.setdefault(device, {})
        key = (self.draw, *sorted(axes.items()), *sorted(parameters.items()))
        if key not in known:
            known[key] = Planned(self.draw, axes, device).build(parameters)
        part = Attention(known[key], device)
        return vendor.sequence([part], contract.of(self.name), axes, device)

    def candidates(self, axes: Mapping[str, int], device) -> list[dict[str, int]]:
        """Every plan that can be built, in the library's order."""
        found = []
        planned = Planned(self.draw, axes, device)
        for index in planned.backend[:TRIED]:
            settings = planned.settings(index)
            try:
                planned.build(settings)
                found.append(settings)
            except NotApplicable:
                continue
        if not found:
            raise NotApplicable(f"cuDNN can build no plan of attention for {planned.where}")
        return found


__all__ = ["Attention", "Graphs", "Planned", "Sketch", "backward", "forward", "handle", "library"]
