"""cuBLASLt in NumPy: what the recorded descriptors say is done to the machine's own memory.

It has the functions of nvmath's bindings that the project calls, with their arguments by the same
names (test_vendor compares them with the bindings where those are installed), and reads matrices,
attributes and algorithms from the addresses it is given. A layout, a transpose or a leading
dimension that is wrong gives a wrong product here, without a GPU. Where the library would refuse
or misbehave (an address that is no multiple of 16, a leading dimension too small, a workspace
other than the algorithm's), this one asserts.
"""

import ctypes
from enum import IntEnum
from itertools import count

import numpy as np

from ported.precision import decode, encode

DTYPES = {0: "float32", 14: "bfloat16"}
Epilogue = IntEnum("Epilogue", {"DEFAULT": 1, "BIAS": 4, "GELU_AUX_BIAS": 164, "DGELU": 192,
                                "BGRADB": 512})
ReductionScheme = IntEnum("ReductionScheme", {"NONE": 0, "INPLACE": 1, "COMPUTE_TYPE": 2})
MatmulDescAttribute = IntEnum("MatmulDescAttribute", {
    "TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8, "EPILOGUE_AUX_POINTER": 11,
    "EPILOGUE_AUX_LD": 12})
MatmulPreferenceAttribute = IntEnum("MatmulPreferenceAttribute", {
    "MAX_WORKSPACE_BYTES": 1, "REDUCTION_SCHEME_MASK": 3,
    **{f"MIN_ALIGNMENT_{m}_BYTES": 5 + k for k, m in enumerate("ABCD")}})
MatmulAlgoConfigAttribute = IntEnum("MatmulAlgoConfigAttribute", {
    "ID": 0, "TILE_ID": 1, "SPLITK_NUM": 2, "REDUCTION_SCHEME": 3, "CTA_SWIZZLING": 4,
    "CUSTOM_OPTION": 5, "STAGES_ID": 6, "INNER_SHAPE_ID": 7, "CLUSTER_SHAPE_ID": 8})
matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
matmul_heuristic_result_dtype = np.dtype([
    ("algo", matmul_algo_dtype), ("workspace_size", "<u8"), ("state", "<i4"),
    ("waves_count", "<f4"), ("reserved", "<i4", (4,))])


class cuBLASLtError(Exception):  # noqa: N801 - the bindings' own name
    """As the bindings': `status` says which."""

    def __init__(self, status: int):
        super().__init__(f"status {status}")
        self.status = status


def memory(address: int, nbytes: int, dtype) -> np.ndarray:
    """The machine's memory itself."""
    return np.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_slope(x: np.ndarray) -> np.ndarray:
    """By a complex step: exact to rounding, no derivative by hand."""
    return np.imag(gelu(x + 1e-30j)) / 1e-30


class CublasLt:
    """One library. `made` counts products; `favourite` is the id of its first choice."""

    Epilogue, ReductionScheme = Epilogue, ReductionScheme
    MatmulDescAttribute, MatmulPreferenceAttribute = MatmulDescAttribute, MatmulPreferenceAttribute
    MatmulAlgoConfigAttribute = MatmulAlgoConfigAttribute
    matmul_heuristic_result_dtype, cuBLASLtError = matmul_heuristic_result_dtype, cuBLASLtError
    favourite = 66

    def __init__(self):
        self._numbers, self.objects, self.run = count(1000), {}, []

    def _new(self, **what) -> int:
        number = next(self._numbers)
        self.objects[number] = what
        return number

    def create(self) -> int:
        return self._new(kind="handle")

    def matrix_layout_create(self, type, rows, cols, ld) -> int:  # noqa: A002
        assert ld >= rows >= 1 and cols >= 1
        return self._new(kind="layout", dtype=DTYPES[type], rows=rows, cols=cols, ld=ld)

    def matmul_desc_create(self, compute_type, scale_type) -> int:
        assert scale_type == 0
        return self._new(kind="desc", compute=compute_type)

    def matmul_preference_create(self) -> int:
        return self._new(kind="preference")

    def matrix_layout_destroy(self, mat_layout):
        assert self.objects.pop(mat_layout)["kind"] == "layout"

    def matmul_desc_destroy(self, matmul_desc):
        assert self.objects.pop(matmul_desc)["kind"] == "desc"

    def matmul_preference_destroy(self, pref):
        assert self.objects.pop(pref)["kind"] == "preference"

    def get_matmul_desc_attribute_dtype(self, attr):
        wide = {"BIAS_POINTER", "EPILOGUE_AUX_POINTER", "EPILOGUE_AUX_LD"}
        return np.int64 if MatmulDescAttribute(attr).name in wide else np.int32

    def get_matmul_preference_attribute_dtype(self, attr):
        return np.uint64 if attr == 1 else np.uint32

    def get_matmul_algo_config_attribute_dtype(self, attr):
        return np.uint16 if attr in (7, 8) else np.uint32

    def _set(self, number, kind, name, buf, size, dtype):
        assert size == np.dtype(dtype).itemsize and self.objects[number]["kind"] == kind
        self.objects[number][name] = int(memory(buf, size, dtype)[0])

    def matmul_desc_set_attribute(self, matmul_desc, attr, buf, size_in_bytes):
        self._set(matmul_desc, "desc", MatmulDescAttribute(attr).name, buf, size_in_bytes,
                  self.get_matmul_desc_attribute_dtype(attr))

    def matmul_preference_set_attribute(self, pref, attr, buf, size_in_bytes):
        self._set(pref, "preference", MatmulPreferenceAttribute(attr).name, buf, size_in_bytes,
                  self.get_matmul_preference_attribute_dtype(attr))

    def matmul_algo_get_heuristic(self, light_handle, operation_desc, adesc, bdesc, cdesc, ddesc,
                                  preference, requested_algo_count, heuristic_results_array,
                                  return_algo_count):
        wanted = self.objects[preference]
        assert wanted["REDUCTION_SCHEME_MASK"] == ReductionScheme.COMPUTE_TYPE
        assert all(wanted[f"MIN_ALIGNMENT_{m}_BYTES"] <= 16 for m in "ABCD")
        self._sizes(operation_desc, adesc, bdesc, ddesc)
        given = min(requested_algo_count, 3)
        results = memory(heuristic_results_array,
                         matmul_heuristic_result_dtype.itemsize * requested_algo_count,
                         matmul_heuristic_result_dtype)
        for k in range(given):
            results["algo"]["data_"][k, :2] = self.favourite + k, 7 * k  # id, tile
            results["workspace_size"][k] = 1000 * (self.favourite + k)
        memory(return_algo_count, 4, np.int32)[0] = given

    def matmul_algo_init(self, light_handle, compute_type, scale_type, atype, btype, ctype, dtype,
                         algo_id, algo):
        assert {scale_type, *(atype, btype, ctype, dtype)} <= set(DTYPES) and ctype == dtype
        memory(algo, 64, np.uint64)[:] = [algo_id, *[0] * 7]

    def _config(self, algo, attr) -> tuple[np.ndarray, int]:
        """The algorithm's 64 bytes, and where in them an attribute lies: the id by itself."""
        return memory(algo, 64, np.uint32), attr + 1 if attr else 0

    def matmul_algo_config_get_attribute(self, algo, attr, buf, size_in_bytes, size_written):
        words, place = self._config(algo, attr)
        dtype = self.get_matmul_algo_config_attribute_dtype(attr)
        memory(buf, size_in_bytes, dtype)[0] = words[place]

    def matmul_algo_config_set_attribute(self, algo, attr, buf, size_in_bytes):
        words, place = self._config(algo, attr)
        dtype = self.get_matmul_algo_config_attribute_dtype(attr)
        words[place] = memory(buf, size_in_bytes, dtype)[0]

    def matmul_algo_check(self, light_handle, operation_desc, adesc, bdesc, cdesc, ddesc, algo,
                          result):
        identity = int(memory(algo, 64, np.uint64)[0])
        if not self.favourite <= identity < self.favourite + 3:
            raise cuBLASLtError(15)
        size = matmul_heuristic_result_dtype.itemsize
        memory(result, size, matmul_heuristic_result_dtype)["workspace_size"] = 1000 * identity

    def _sizes(self, desc, adesc, bdesc, ddesc) -> tuple[int, int, int]:
        """m, n, k, after the transposes fit each other."""
        described = self.objects[desc]
        a, b, d = (self.objects[number] for number in (adesc, bdesc, ddesc))
        m, k = (a["cols"], a["rows"]) if described["TRANSA"] else (a["rows"], a["cols"])
        same, n = (b["cols"], b["rows"]) if described["TRANSB"] else (b["rows"], b["cols"])
        assert (same, d["rows"], d["cols"]) == (k, m, n)
        return m, n, k

    def _matrix(self, address: int, layout: dict) -> np.ndarray:
        """A matrix of the library as a writable view, rows x columns."""
        assert address % 16 == 0
        item = 2 if layout["dtype"] == "bfloat16" else 4
        flat = memory(address, item * layout["ld"] * layout["cols"],
                      np.uint16 if item == 2 else np.float32)
        return flat.reshape(layout["cols"], layout["ld"])[:, :layout["rows"]].T

    def matmul(self, light_handle, compute_desc, alpha, a, adesc, b, bdesc, beta, c, cdesc, d,
               ddesc, algo, workspace, workspace_size_in_bytes, stream):
        assert self.objects[light_handle]["kind"] == "handle" and workspace % 256 == 0
        assert workspace_size_in_bytes == 1000 * int(memory(algo, 64, np.uint64)[0])
        memory(workspace, workspace_size_in_bytes, np.uint8)[:] = 0xFF  # NaN to whoever reads it
        m, n, _ = self._sizes(compute_desc, adesc, bdesc, ddesc)
        described, layout = self.objects[compute_desc], self.objects[ddesc]
        one, two, into = (self._matrix(p, self.objects[q]) for p, q in
                          ((a, adesc), (b, bdesc), (d, ddesc)))
        one, two = (decode(x, self.objects[q]["dtype"]).astype(float) for x, q in
                    ((one, adesc), (two, bdesc)))
        one = one.T if described["TRANSA"] else one
        two = two.T if described["TRANSB"] else two
        scale, keep = (memory(p, 4, np.float32)[0] for p in (alpha, beta))
        y = scale * (one @ two)
        if keep:
            assert (c, cdesc) == (d, ddesc)
            y += keep * decode(into, layout["dtype"])
        self._epilogue(described, layout, y, two)
        into[:] = encode(y, layout["dtype"])
        self.run.append((m, n, described["EPILOGUE"], described["compute"], stream))

    def _epilogue(self, described: dict, layout: dict, y: np.ndarray, two: np.ndarray) -> None:
        """Changes y [m, n] as the epilogue says."""
        dtype, word = layout["dtype"], np.uint16 if layout["dtype"] == "bfloat16" else np.float32
        item, (m, n) = np.dtype(word).itemsize, y.shape
        epilogue = Epilogue(described["EPILOGUE"]).name
        if "BIAS" in epilogue:
            bias = memory(described["BIAS_POINTER"], item * m, word)
            y += decode(bias, dtype)[:, None]
        if "GELU" in epilogue:
            aux = self._matrix(described["EPILOGUE_AUX_POINTER"],
                               {**layout, "ld": described["EPILOGUE_AUX_LD"]})
            assert described["EPILOGUE_AUX_LD"] % 8 == 0
            if epilogue == "DGELU":
                y *= gelu_slope(decode(aux, dtype).astype(float))
            else:
                aux[:] = encode(y, dtype)
                y[:] = gelu(y)
        if epilogue == "BGRADB":
            memory(described["BIAS_POINTER"], item * n, word)[:] = encode(two.sum(0), dtype)
