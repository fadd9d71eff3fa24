"""Matrix products through cuBLASLt, said in row-major terms.

cuBLASLt's matrices lie column by column: a row-major [r, c] is its c x r with leading dimension c.
So out = left @ right is, for it, D = A B with D = out^T, A = right^T and B = left^T, and nothing
is moved. Its epilogues follow: a bias of D's rows is one of out's columns, and BGRADB, the sum of
op(B) over the products' inner axis, has a number for each row of `left`.

An algorithm is recorded as the integers of its configuration, so that a kernel lock gives the same
algorithm, and with it the same bits, again. Reductions through the output in place are refused;
what is left adds in a fixed order.

Source: NVIDIA, cuBLAS documentation, "Using the cuBLASLt API": cublasLtMatmul,
cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t, cublasLtMatmulAlgoConfigAttributes_t.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ported import contract
from ported.device import NotApplicable, cublaslt_search, vendor

TYPES = {"float32": 0, "bfloat16": 14}  # CUDA_R_32F, CUDA_R_16BF
COMPUTE = {"float32": 68, "tf32": 77}  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
WORKSPACE = 64 << 20  # bytes that an algorithm may ask for
TRIED = 12  # algorithms asked for, the library's favourite first
SETTINGS = {"id": "ID", "tile": "TILE_ID", "stages": "STAGES_ID", "splitk": "SPLITK_NUM",
            "reduction": "REDUCTION_SCHEME", "swizzle": "CTA_SWIZZLING",
            "custom": "CUSTOM_OPTION", "inner": "INNER_SHAPE_ID", "cluster": "CLUSTER_SHAPE_ID"}


@dataclass(frozen=True)
class Matrix:
    """A row-major matrix [rows, columns] in the buffer `name`; `transposed` when multiplied."""

    name: str
    role: str
    rows: int
    columns: int
    transposed: bool = False

    @property
    def T(self) -> "Matrix":
        return replace(self, transposed=not self.transposed)

    @property
    def shape(self) -> tuple[int, int]:
        """As it is multiplied."""
        return (self.columns, self.rows) if self.transposed else (self.rows, self.columns)


@dataclass(frozen=True)
class Product:
    """out = left @ right, then the epilogue; `accumulate` adds to what stands in out.

    `vector` is the bias of out's columns that the epilogue adds, or the sum of left's rows that it
    gives (BGRADB); `aux` a matrix as out is: what goes into the GELU, written or read."""

    out: Matrix
    left: Matrix
    right: Matrix
    epilogue: str = "DEFAULT"
    vector: str | None = None
    aux: str | None = None
    accumulate: bool = False

    def __post_init__(self):
        (rows, inner), (same, columns) = self.left.shape, self.right.shape
        if inner != same or self.out.shape != (rows, columns) or self.out.transposed:
            raise ValueError(f"{self.out.name}: found {self.left.shape} @ {self.right.shape} into "
                             f"{self.out.shape}; expected [n, k] @ [k, m] into [n, m]")


def library():
    """nvmath's bindings of cuBLASLt: each function takes the C function's arguments as ints."""
    return vendor.imported("nvmath.bindings.cublasLt", "nvmath-python", alone=True)


_handles: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()


def handle(device) -> int:
    """The library's handle for `device`, made at its first use (about a third of a second)."""
    if device not in _handles:
        _handles[device] = library().create()
    return _handles[device]


def _pointer(array: np.ndarray) -> int:
    return array.ctypes.data


class Owned:
    """A descriptor of the library's, destroyed when nothing refers to it any more."""

    def __init__(self, number: int, destroy: Callable[[int], None]):
        self.number = number
        weakref.finalize(self, destroy, number).atexit = False

    def set(self, setter: Callable, dtype_of: Callable, attribute: int, value: int) -> None:
        """One attribute; the library copies what it is pointed at."""
        held = np.array([value], dtype_of(attribute))
        setter(self.number, int(attribute), _pointer(held), held.nbytes)


@dataclass(frozen=True)
class Algorithm:
    """What the library calls an algorithm: 64 bytes, and the workspace it needs at its shape."""

    words: np.ndarray
    nbytes: int


class Problem:
    """One product in the library's terms, at one device. `compute`: float32, or tf32."""

    def __init__(self, product: Product, device, compute: str):
        self.product, self.device, self.lt = product, device, library()
        self.compute = COMPUTE[compute]
        self.types = {matrix.name: TYPES[device.precision.dtypes[matrix.role]]
                      for matrix in (product.out, product.left, product.right)}
        self.a, self.b, self.d = map(self._layout, (product.right, product.left, product.out))

    def _layout(self, matrix: Matrix) -> Owned:
        number = self.lt.matrix_layout_create(self.types[matrix.name], matrix.columns, matrix.rows,
                                              matrix.columns)
        return Owned(number, self.lt.matrix_layout_destroy)

    def description(self, addresses: Mapping[str, int]) -> Owned:
        """The operation: what is transposed, and the epilogue with its addresses."""
        lt, product = self.lt, self.product
        made = Owned(lt.matmul_desc_create(self.compute, TYPES["float32"]),
                     lt.matmul_desc_destroy)
        wanted = {"TRANSA": product.right.transposed, "TRANSB": product.left.transposed,
                  "EPILOGUE": lt.Epilogue[product.epilogue]}
        if product.vector:
            wanted["BIAS_POINTER"] = addresses[product.vector]
        if product.aux:
            wanted["EPILOGUE_AUX_POINTER"] = addresses[product.aux]
            wanted["EPILOGUE_AUX_LD"] = product.out.columns
        for name, value in wanted.items():
            made.set(lt.matmul_desc_set_attribute, lt.get_matmul_desc_attribute_dtype,
                     lt.MatmulDescAttribute[name], int(value))
        return made

    def stand_in(self) -> Owned:
        """A description before addresses are known: the library looks only at how they lie."""
        names = filter(None, (self.product.vector, self.product.aux))
        return self.description(dict.fromkeys(names, vendor.SCRATCH_ALIGNMENT))

    def _preference(self) -> Owned:
        lt = self.lt
        made = Owned(lt.matmul_preference_create(), lt.matmul_preference_destroy)
        wanted = {"MAX_WORKSPACE_BYTES": WORKSPACE,
                  "REDUCTION_SCHEME_MASK": lt.ReductionScheme.COMPUTE_TYPE,
                  **{f"MIN_ALIGNMENT_{m}_BYTES": vendor.ALIGNMENT for m in "ABCD"}}
        for name, value in wanted.items():
            made.set(lt.matmul_preference_set_attribute, lt.get_matmul_preference_attribute_dtype,
                     lt.MatmulPreferenceAttribute[name], int(value))
        return made

    def choices(self, count: int) -> list[Algorithm]:
        """Up to `count` algorithms, the library's favourite first. NotApplicable for none."""
        lt, described, preference = self.lt, self.stand_in(), self._preference()
        results = np.zeros(count, lt.matmul_heuristic_result_dtype)
        found = np.zeros(1, np.int32)
        try:
            lt.matmul_algo_get_heuristic(
                handle(self.device), described.number, self.a.number, self.b.number,
                self.d.number, self.d.number, preference.number, count, _pointer(results),
                _pointer(found))
        except lt.cuBLASLtError as error:
            if getattr(error, "status", NOT_SUPPORTED) != NOT_SUPPORTED:
                raise
            found[0] = 0
        kept = [Algorithm(results["algo"]["data_"][i].copy(), int(results["workspace_size"][i]))
                for i in range(found[0]) if results["state"][i] == 0]
        if not kept:
            raise self._refused("no algorithm")
        return kept

    def _refused(self, what: str) -> NotApplicable:
        p = self.product
        return NotApplicable(
            f"cuBLASLt has {what} for {p.out.name} {list(p.out.shape)} = {p.left.name} "
            f"{list(p.left.shape)} @ {p.right.name} {list(p.right.shape)} with the epilogue "
            f"{p.epilogue} in {self.device.precision.name}")

    def settings(self, algorithm: Algorithm) -> dict[str, int]:
        """The algorithm's configuration as integers, named after the product's output."""
        lt, words = self.lt, algorithm.words.copy()
        found, written = {}, np.zeros(1, np.uint64)
        for short, name in SETTINGS.items():
            attribute = lt.MatmulAlgoConfigAttribute[name]
            held = np.zeros(1, lt.get_matmul_algo_config_attribute_dtype(attribute))
            lt.matmul_algo_config_get_attribute(_pointer(words), int(attribute), _pointer(held),
                                                held.nbytes, _pointer(written))
            found[f"{self.product.out.name}_{short}"] = int(held[0])
        return found

    def algorithm(self, parameters: Mapping[str, int]) -> Algorithm:
        """The algorithm that `parameters` record; the library's favourite where they do not."""
        own = {short: parameters[f"{self.product.out.name}_{short}"] for short in SETTINGS
               if f"{self.product.out.name}_{short}" in parameters}
        return self._rebuilt(own) if own else self.choices(1)[0]

    def part(self, algorithm: Algorithm) -> "Matmul":
        """This product by `algorithm`, as a part of a plan."""
        return Matmul(self, algorithm)

    def _rebuilt(self, own: Mapping[str, int]) -> Algorithm:
        lt, p = self.lt, self.product
        words, result = np.zeros(8, np.uint64), np.zeros(1, lt.matmul_heuristic_result_dtype)
        a, b, d = (self.types[m.name] for m in (p.right, p.left, p.out))
        described = self.stand_in()
        try:
            lt.matmul_algo_init(handle(self.device), self.compute, TYPES["float32"], a, b, d, d,
                                own["id"], _pointer(words))
            for short, value in own.items():
                if short == "id":
                    continue
                attribute = lt.MatmulAlgoConfigAttribute[SETTINGS[short]]
                held = np.array([value], lt.get_matmul_algo_config_attribute_dtype(attribute))
                lt.matmul_algo_config_set_attribute(_pointer(words), int(attribute),
                                                    _pointer(held), held.nbytes)
            lt.matmul_algo_check(handle(self.device), described.number, self.a.number,
                                 self.b.number, self.d.number, self.d.number, _pointer(words),
                                 _pointer(result))
        except lt.cuBLASLtError as error:
            raise self._refused(f"({error}) not the algorithm {dict(own)}") from error
        return Algorithm(words, int(result["workspace_size"][0]))


class Matmul:
    """A product with its algorithm: a part of a plan."""

    def __init__(self, problem: Problem, algorithm: Algorithm):
        self.problem, self.algorithm = problem, algorithm
        self.scratch = {"workspace": ("float32", (-(-algorithm.nbytes // 4),), False)}

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        return Enqueue(self.problem, self.algorithm, addresses)


class Enqueue:
    """The call: the library's function with its arguments, and what they point at."""

    def __init__(self, problem: Problem, algorithm: Algorithm, addresses: Mapping[str, int]):
        p = problem.product
        described = problem.description(addresses)
        alpha = np.ones(1, np.float32)
        beta = np.full(1, float(p.accumulate), np.float32)
        words = algorithm.words.copy()
        out = addresses[p.out.name]
        self.kept = (problem, described, alpha, beta, words)
        self.matmul = problem.lt.matmul
        self.arguments = (
            handle(problem.device), described.number, _pointer(alpha),
            addresses[p.right.name], problem.a.number, addresses[p.left.name], problem.b.number,
            _pointer(beta), out, problem.d.number, out, problem.d.number, _pointer(words),
            addresses["workspace"], algorithm.nbytes, problem.device.stream.handle)

    def __call__(self) -> None:
        self.matmul(*self.arguments)


class Matmuls:
    """A version made of products: `products(axes)` says which; `before` and `after` are parts of
    our own around them, each made by a function of (axes, device)."""

    def __init__(self, name: str, products: Callable[[Mapping[str, int]], Sequence[Product]],
                 compute: str = "float32", before: Sequence[Callable] = (),
                 after: Sequence[Callable] = ()):
        self.name, self.products, self.compute = name, products, compute
        self.before, self.after = before, after

    def problems(self, axes: Mapping[str, int], device) -> list[Problem]:
        return [Problem(product, device, self.compute) for product in self.products(axes)]

    def plan(self, axes: Mapping[str, int], parameters: Mapping[str, int], device) -> vendor.Plan:
        parts = [problem.part(problem.algorithm(parameters))
                 for problem in self.problems(axes, device)]
        before, after = ([make(axes, device) for make in some]
                         for some in (self.before, self.after))
        return vendor.sequence([*before, *parts, *after], contract.of(self.name), axes, device)

    def candidates(self, axes: Mapping[str, int], device) -> list[dict[str, int]]:
        """The library's own choice first, then combinations of what was fastest for each product
        alone, best first. Times every choice on the device."""
        return cublaslt_search.combined(self.problems(axes, device), TRIED)


__all__ = ["Algorithm", "Matmul", "Matmuls", "Matrix", "Problem", "Product", "handle", "library"]
