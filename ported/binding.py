"""How a version's parameters meet the contract and a step's buffers: by name, and only by name."""

import ctypes
from collections.abc import Iterable, Mapping

from ported.contract import Contract, Tensor
from ported.source import C_TYPES, DEVICE_VALUES, Parameter, SourceError, Version

INTEGERS = {"int": ctypes.c_int, "int32_t": ctypes.c_int, "int64_t": ctypes.c_int64,
            "long": ctypes.c_long, "size_t": ctypes.c_size_t}
REALS = {"float": ctypes.c_float, "double": ctypes.c_double}


class BindingError(ValueError):
    """Shapes or arguments of a step that do not fit the contract."""


def merged(shape: tuple[int, ...], rank: int) -> tuple[int, ...] | None:
    """`shape` with its leading axes merged down to `rank`; None where it has fewer axes."""
    if len(shape) < rank or not rank:
        return None
    lead = 1
    for size in shape[: len(shape) - rank + 1]:
        lead *= size
    return (lead, *shape[len(shape) - rank + 1:])


def product(shape: Iterable[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def axes_of(contract: Contract, shapes: Mapping[str, tuple[int, ...]],
            sizes: Mapping[str, int]) -> dict[str, int]:
    """The value of every axis of `contract`, from the arguments' shapes, then from `sizes`.

    A buffer of more axes than the contract's merges its leading ones; one of fewer is judged by
    its number of elements. Raises BindingError that names every argument that does not fit.
    """
    axes: dict[str, int] = {}
    for tensor in contract.tensors:
        shape = merged(shapes[tensor.name], len(tensor.axes))
        for axis, size in zip(tensor.axes, shape or (), strict=bool(shape)):
            if axis.isidentifier():
                axes.setdefault(axis, size)
    for axis in contract.axes:
        if axis not in axes:
            if axis not in sizes:
                raise BindingError(f"{contract.name}: no shape shows the axis {axis}; expected it "
                                   f"among the sizes {', '.join(sizes) or 'given'}")
            axes[axis] = sizes[axis]
    wrong = []
    for tensor in contract.tensors:
        expected = tensor.shape(axes)
        if product(expected) != product(shapes[tensor.name]):
            wrong.append(f"{tensor} has shape {shapes[tensor.name]}, expected {expected}")
    if wrong:
        bound = ", ".join(f"{axis}={size}" for axis, size in axes.items())
        raise BindingError(f"{contract.name} with {bound}: " + "; ".join(wrong))
    return axes


def check(version: Version, contract: Contract) -> None:
    """Raises SourceError that names both sides where the C signature and the contract part."""
    offenders = []
    seen = set()
    scratch = {part.name: part for part in version.scratch}
    for function, parameters in version.parameters.items():
        for parameter in parameters:
            seen.add(parameter.name)
            fault = (_pointer_fault(parameter, version, contract, scratch) if parameter.pointer
                     else _value_fault(parameter, version, contract))
            if fault:
                offenders.append(f"{function}({parameter.name}): {fault}")
    if version.language != "py":
        offenders += [f"the contract has {tensor}; the C function has no parameter of that name"
                      for tensor in contract.tensors if tensor.name not in seen]
    if offenders:
        known = ", ".join([str(t) for t in contract.tensors] + list(contract.consts)
                          + list(contract.axes))
        raise SourceError(f"{version.path}: does not fit {contract.name}:\n  "
                          + "\n  ".join(offenders) + f"\n  the contract: {known}")


def _pointer_fault(parameter: Parameter, version: Version, contract: Contract,
                   scratch: Mapping) -> str | None:
    part = scratch.get(parameter.name) or contract.by_name.get(parameter.name)
    if part is None:
        return "a pointer that neither the contract nor a scratch line knows"
    allowed = {part.role} | {t for choice in version.dtypes
                             for t in C_TYPES[version.dtype_of(part.role, choice)]}
    if parameter.ctype not in allowed:
        return f"found {parameter.ctype}*; expected {' or '.join(sorted(allowed - {part.role}))}*"
    if isinstance(part, Tensor) and (part.access == "in") != parameter.const:
        found, expected = ("const", "no const") if parameter.const else ("no const", "const")
        return f"found {found}; expected {expected}, since the contract says {part.access}"
    return None


def _value_fault(parameter: Parameter, version: Version, contract: Contract) -> str | None:
    name = parameter.name
    if name in contract.consts:
        return None if parameter.ctype in REALS else f"found {parameter.ctype}; expected float"
    integers = {*contract.axes, *version.tune, "block", *DEVICE_VALUES}
    if name not in integers:
        return f"a value that is no axis or constant; known: {', '.join(sorted(integers))}"
    return None if parameter.ctype in INTEGERS else f"found {parameter.ctype}; expected int"


def arguments(version: Version, function: str, addresses: Mapping[str, int],
              consts: Mapping[str, float], integers: Mapping[str, int]) -> list:
    """ctypes arguments of one launch, in the order of its C signature.

    `addresses` of tensors and scratch in bytes, `consts` exact doubles, `integers` axes and
    parameters. A role's type stands for the pointer only, so all pointers pass alike.
    """
    packed = []
    for parameter in version.parameters[function]:
        name = parameter.name
        if parameter.pointer:
            packed.append(ctypes.c_void_p(addresses[name]))
        elif name in consts:
            packed.append(REALS[parameter.ctype](consts[name]))
        else:
            packed.append(INTEGERS[parameter.ctype](integers[name]))
    return packed


def packed(values: Iterable) -> bytes:
    """ctypes values as one parameter block of a CUDA launch: each at a multiple of its alignment,
    as in a C struct, and nothing behind the last."""
    block = bytearray()
    for value in values:
        block += bytes(-len(block) % ctypes.alignment(type(value)))
        block += bytes(value)
    return bytes(block)


__all__ = ["BindingError", "arguments", "axes_of", "check", "merged", "packed", "product"]
