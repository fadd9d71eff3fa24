"""Where a version's shared variables lie: read from the symbol table of its compiled library."""

import re
from pathlib import Path

import numpy as np

# The ELF-64 format: headers of sections, and symbols (System V ABI, chapter 4).
_SECTION = np.dtype([("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"),
                     ("offset", "<u8"), ("size", "<u8"), ("link", "<u4"), ("info", "<u4"),
                     ("align", "<u8"), ("entry", "<u8")])
_SYMBOL = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"),
                    ("value", "<u8"), ("size", "<u8")])
_SYMBOL_TABLE, _OBJECT = 2, 1
_INSTANCE = re.compile(r"_ZZN?\d+\w+I.*E")  # a variable within an instance of a template


def _tables(data: bytes) -> np.ndarray:
    start, count = int.from_bytes(data[0x28:0x30], "little"), int.from_bytes(data[0x3C:0x3E],
                                                                               "little")
    return np.frombuffer(data, _SECTION, count, start)


def _text(data: bytes, at: int) -> str:
    return data[at:data.index(b"\0", at)].decode()


def sections(compiled: Path) -> list[str]:
    """The sections of an object file by name."""
    data = compiled.read_bytes()
    found = _tables(data)
    names = int(found[int.from_bytes(data[0x3E:0x40], "little")]["offset"])
    return [_text(data, names + int(section["name"])) for section in found]


def shared_variables(library: Path) -> list[tuple[str, int, int]]:
    """(mangled name, offset in shared memory, bytes) of each static shared variable."""
    data = library.read_bytes()
    sections = _tables(data)
    table = next((section for section in sections if section["type"] == _SYMBOL_TABLE), None)
    if table is None:
        return []
    symbols = np.frombuffer(data, _SYMBOL, int(table["size"]) // _SYMBOL.itemsize,
                            int(table["offset"]))
    names = int(sections[table["link"]]["offset"])

    def name(symbol) -> str:
        return _text(data, names + int(symbol["name"]))

    ends = {name(symbol): int(symbol["value"]) for symbol in symbols[symbols["size"] == 0]
            if symbol["name"]}
    begin, end = (ends.get(f"emulated_shared_{side}", 0) for side in ("begin", "end"))
    inside = ((symbols["value"] >= begin) & (symbols["value"] < end) & (symbols["size"] > 0)
              & (symbols["info"] & 15 == _OBJECT))
    return [(name(symbol), int(symbol["value"]) - begin, int(symbol["size"]))
            for symbol in symbols[inside]]


def of_launch(variables, function: str, functions) -> int:
    """Bytes of static shared memory that the kernel `function` has: all variables but those that
    lie in another kernel of the same file, or in what was made from a template for another. Of
    one template's instances the largest counts: which of them a kernel calls, no name says."""
    others = "|".join(re.escape(f"{len(f)}{f}") for f in functions if f != function)
    sizes: dict[tuple, int] = {}
    for name, _, size in variables:
        if others and re.search(rf"Z({others})(E|P)", name):
            continue
        length = re.match(r"_ZZN?(\d+)", name)
        template = name[length.end():length.end() + int(length[1])] if length else name
        key = (template, name.rpartition("E")[2]) if _INSTANCE.match(name) else (name,)
        sizes[key] = max(size, sizes.get(key, 0))
    return sum(sizes.values())
