"""cuDNN's attention in NumPy: the graph as it was described, carried out on the machine's memory.

It has what the project uses of the package `cudnn`. Tensors are read and written through the sizes
and strides they were declared with, at the bare addresses a call binds, so that a stride or an
offset that is wrong gives a wrong answer here, without a GPU.
"""

from enum import IntEnum
from types import SimpleNamespace

import numpy as np

from checks.cublaslt_stand_in import memory
from ported.precision import decode, encode

ITEM = {"bfloat16": np.uint16, "float32": np.float32}


class Tensor:
    """One tensor of a graph; the setters chain."""

    def __init__(self, uid=None, dim=None, stride=None, data_type=None):
        self.uid, self.dim, self.stride, self.dtype = uid, dim, stride, data_type
        self.output = False

    def set_output(self, value):
        self.output = value
        return self

    def set_data_type(self, dtype):
        self.dtype = dtype
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_uid(self, uid):
        self.uid = uid
        return self

    def at(self, address: int) -> np.ndarray:
        """The memory as [B, H, T, D]."""
        assert address % 16 == 0
        item = np.dtype(ITEM[self.dtype])
        extent = 1 + sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True))
        flat = memory(address, item.itemsize * extent, item)
        return np.lib.stride_tricks.as_strided(flat, self.dim,
                                               [s * item.itemsize for s in self.stride])


class Graph:
    """One node of attention. `cudnn` is the stand-in that made it."""

    def __init__(self, cudnn, name, io_data_type, intermediate_data_type, compute_data_type,
                 handle):
        assert handle.stream is not None
        self.cudnn, self.tensors, self.handle = cudnn, [], handle
        self.steps, self.built = [], None

    def tensor(self, dim, stride, data_type, name, uid):
        self.tensors.append(Tensor(uid, dim, stride, data_type))
        return self.tensors[-1]

    def _node(self, outputs: int, **given):
        assert given["diagonal_alignment"] == "top left"
        assert given["diagonal_band_right_bound"] == 0
        self.node = given
        self.outputs = [Tensor() for _ in range(outputs)]
        self.tensors += self.outputs
        return list(self.outputs)

    def sdpa(self, *, q, k, v, attn_scale, diagonal_alignment, diagonal_band_right_bound,
             generate_stats, name):
        assert generate_stats
        return self._node(2, q=q, k=k, v=v, attn_scale=attn_scale,
                          diagonal_alignment=diagonal_alignment,
                          diagonal_band_right_bound=diagonal_band_right_bound)

    def sdpa_backward(self, *, q, k, v, o, dO, stats, attn_scale, diagonal_alignment,
                      diagonal_band_right_bound, use_deterministic_algorithm, name):
        self.cudnn.deterministic.append(use_deterministic_algorithm)
        return self._node(3, q=q, k=k, v=v, o=o, dO=dO, stats=stats, attn_scale=attn_scale,
                          diagonal_alignment=diagonal_alignment,
                          diagonal_band_right_bound=diagonal_band_right_bound)

    def validate(self):
        assert len({tensor.uid for tensor in self.tensors}) == len(self.tensors)
        assert all(tensor.output and tensor.dim for tensor in self.outputs)
        self.steps.append("validate")

    def build_operation_graph(self):
        self.steps.append("operations")

    def create_execution_plans(self, modes):
        if self.node["q"].dim[2] in self.cudnn.refused:
            raise self.cudnn.cudnnGraphNotSupportedError("no engine for these sizes")
        self.plans = [SimpleNamespace(cpp_index=place) for place in (None, 0, 1, 2)]

    def get_engine_and_knobs_at_index(self, index):
        return 3 + index, {self.cudnn.knob_type.TILE_M: 64 * index}

    def select_plan(self, index):
        assert self.plans[index].cpp_index is not None
        self.chosen = index

    def build_plans(self):
        if self.chosen == 2:
            raise self.cudnn.cudnnGraphNotSupportedError("does not build")
        self.built = self.chosen

    def get_workspace_size(self):
        return 1000 * self.built

    def execute(self, tensor_dict, workspace, handle):
        assert self.built and handle is self.handle and workspace % 256 == 0
        assert set(tensor_dict) == {tensor.uid for tensor in self.tensors}
        assert all(type(address) is int for address in tensor_dict.values())
        memory(workspace, self.get_workspace_size(), np.uint8)[:] = 0xFF
        known = {name: decode(tensor.at(tensor_dict[tensor.uid]), tensor.dtype).astype(float)
                 for name, tensor in self.node.items() if isinstance(tensor, Tensor)}
        carry_out = self._backward if "dO" in known else self._forward
        for tensor, result in zip(self.outputs, carry_out(**known), strict=True):
            tensor.at(tensor_dict[tensor.uid])[:] = encode(result, tensor.dtype)

    def _scores(self, q, k):
        scores = self.node["attn_scale"] * (q @ k.swapaxes(2, 3))
        return np.where(np.tri(scores.shape[2], dtype=bool), scores, -np.inf)

    def _forward(self, q, k, v):
        scores = self._scores(q, k)
        most = scores.max(-1, keepdims=True)
        total = np.exp(scores - most).sum(-1, keepdims=True)
        return np.exp(scores - most) / total @ v, most + np.log(total)

    def _backward(self, q, k, v, o, dO, stats):
        p = np.exp(self._scores(q, k) - stats)
        ds = p * (dO @ v.swapaxes(2, 3) - (dO * o).sum(-1, keepdims=True))
        ds *= self.node["attn_scale"]
        return ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ dO


class Cudnn:
    """The package. `refused`: sequence lengths it has no engine for."""

    data_type = SimpleNamespace(BFLOAT16="bfloat16", FLOAT="float32")
    heur_mode = SimpleNamespace(A="A", FALLBACK="fallback")
    diagonal_alignment = SimpleNamespace(TOP_LEFT="top left")
    knob_type = IntEnum("knob_type", {"TILE_M": 5})

    class cudnnGraphNotSupportedError(RuntimeError):  # noqa: N801 - the package's own name
        pass

    def __init__(self):
        self.deterministic, self.refused, self.graphs = [], set(), 0

    def create_handle(self):
        return SimpleNamespace(stream=None)

    def set_stream(self, handle, stream):
        handle.stream = stream

    def pygraph(self, **settings):
        self.graphs += 1
        return Graph(self, **settings)
