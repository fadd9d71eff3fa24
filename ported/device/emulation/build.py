"""What g++ compiles for the emulated device: the runtime once, a version for its values.

Everything lies in the user's cache directory, addressed by content: source, headers, flags and
compiler. A version is compiled plainly (`fast`) or instrumented, every access to memory calling
the runtime first (the flavours `addresses` and `races`). The instrumentation is the one of g++'s
thread sanitizer; the functions that it calls are ours (hooks.cpp), so that no sanitizer library
is needed.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ported.device import DeviceError, cuda_code
from ported.device.cpu import cache_directory
from ported.device.emulation import symbols
from ported.precision import Precision
from ported.source import Version

HERE = Path(__file__).resolve().parent
# No fused multiply-add that the source does not write, so that results repeat on any machine; a
# chain of frames, so that a fault can name its callers.
COMMON = ("-std=c++17", "-O1", "-g1", "-gdwarf-4", "-fPIC", "-ffp-contract=off",
          "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
KERNEL = (*COMMON, "-w", "-fvisibility=hidden", "-fno-strict-aliasing", "-fno-threadsafe-statics",
          "-fno-gnu-unique", "-fdata-sections")
CHECKED = ("-fsanitize=thread", "-fsanitize=bounds,alignment", "--param",
           "tsan-instrument-func-entry-exit=0")
# Shared variables have sections of their own: .emulated_shared.N (emulated.h), and .bss._ZZ or
# .data._ZZ where they stand in a template, on which g++ 12 ignores the section attribute (GCC's bug
# 41091). Gathered, they are a block's shared memory. Where accesses are checked, GAP bytes lie
# behind each one, so that an overrun meets nobody.
# Where a fault says that its lines stand. Names of a checkout's folders would lie in libraries that
# another checkout finds in the cache.
OWN, SOURCE, SHARED = "/emulation", "/version", "/cuda_src"
FRAGMENT = """SECTIONS { .emulated_shared : ALIGN(128) {
PROVIDE_HIDDEN(emulated_shared_begin = .); %s
PROVIDE_HIDDEN(emulated_shared_end = .); } } INSERT AFTER .data;"""
SHARED_SECTIONS = (".emulated_shared.", ".bss._ZZ", ".data._ZZ")
GAP = 64


def _named(folder: Path, name: str) -> str:
    return f"-ffile-prefix-map={folder}={name}"


@functools.cache
def compiler() -> tuple[str, str]:
    """The C++ compiler's path and its identity: path, size and time of change."""
    wanted = os.environ.get("CXX") or "g++"
    path = shutil.which(wanted)
    asked = [path or "true", "--version"]
    said = subprocess.run(asked, capture_output=True, text=True).stdout
    if path is None or "Free Software Foundation" not in said:
        found = f"{path}, which is not GNU's" if path else "nothing of that name"
        raise DeviceError(f"no C++ compiler: looked for {wanted} on PATH and found {found}; "
                          "install g++ (Debian, Ubuntu: apt install g++) or set CXX to its path")
    state = os.stat(os.path.realpath(path))
    return path, f"{os.path.realpath(path)}:{state.st_size}:{state.st_mtime_ns}"


@functools.cache
def _headers() -> tuple[tuple[str, ...], str]:
    """Include options, and a digest of all that a compilation reads besides the version."""
    cuda = cuda_code.include_directory()
    state = os.stat(cuda / "cuda_bf16.h")
    digest = hashlib.sha256(f"{cuda}:{state.st_size}:{state.st_mtime_ns}".encode())
    for path in sorted([*HERE.rglob("*.h"), *HERE.glob("*.cpp"), HERE / "build.py"]):
        digest.update(path.read_bytes())
    own = [f"-I{folder}" for folder in (HERE, HERE / "include", cuda_code.COMMON)]
    return (*own, "-isystem", str(cuda), "-isystem", str(cuda / "cccl")), digest.hexdigest()


def _run(command: list[str], what: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        message = "\n".join(result.stderr.splitlines()[:20])
        raise DeviceError(f"{what}: does not compile for the emulated device:\n{message}\n"
                          f"the command: {' '.join(command)}")


def _cached(name: str, key: list[str], make: Callable[[Path], None]) -> Path:
    """The file `name` of the cache, its `{}` the digest of `key`; made where it is missing."""
    digest = hashlib.sha256("\n".join([*key, compiler()[1]]).encode()).hexdigest()[:20]
    path = cache_directory() / "emulated" / name.format(digest)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            built = Path(scratch) / "built"
            make(built)
            os.replace(built, path)
    return path


@functools.cache
def runtime() -> Path:
    """The runtime as a shared library."""
    options, digest = _headers()

    sources = [str(path) for path in sorted(HERE.glob("*.cpp"))]

    def make(path: Path) -> None:
        _run([compiler()[0], *COMMON, "-O2", "-shared", *options, *sources, "-o", str(path)],
             "the runtime")
    return _cached("runtime-{}.so", [digest, *COMMON, *sources], make)


@functools.cache
def _prepared_header(checked: bool) -> Path:
    """The folder of emulated.h, CUDA's headers included, as the compiler's own memory image. Read
    so, it costs a small version a quarter of the time that the text costs."""
    options, digest = _headers()
    flags = [*KERNEL, *(CHECKED if checked else ())]

    def make(path: Path) -> None:
        _run([compiler()[0], *flags, *options, _named(HERE, OWN), "-x", "c++-header",
              str(HERE / "emulated.h"), "-o", str(path)], "emulated.h")
    return _cached("headers-{}/emulated.h.gch", [digest, *flags], make).parent


def _fragment(compiled: Path, checked: bool) -> str:
    """The linker's script for the shared variables of an object file."""
    own = sorted({n for n in symbols.sections(compiled) if n.startswith(SHARED_SECTIONS)})
    return FRAGMENT % "\n".join(f"*({name}) . = . + {GAP * checked};" for name in own)


def library(version: Version, precision: Precision, values: Mapping[str, int],
            checked: bool) -> Path:
    """The shared library of one version, whose functions `launch_<kernel>` run it."""
    options, headers = _headers()
    flags = [*KERNEL, *(CHECKED if checked else ()),
             *(flag for flag in version.flags if flag.startswith("-D"))]
    text = cuda_code.prelude(precision, values)
    entries = "\n".join(f"EMULATED_KERNEL({launch})" for launch in version.parameters)
    engine = runtime()

    def make(path: Path) -> None:
        unit = path.with_suffix(".cpp")
        unit.write_text(f'{text}#include "{version.path.resolve()}"\n{entries}\n')
        compiled, fragment = path.with_suffix(".o"), path.with_suffix(".ld")
        folder = version.path.resolve().parent
        named = [_named(HERE, OWN), _named(cuda_code.COMMON, SHARED), _named(folder, SOURCE)]
        compiling = [compiler()[0], *flags, f"-I{_prepared_header(checked)}", *options,
                     f"-I{folder}", *named, "-include", "emulated.h", "-c", str(unit)]
        _run([*compiling, "-o", str(compiled)], str(version.path))
        fragment.write_text(_fragment(compiled, checked))
        # Libraries by name, or -fsanitize=thread would bring its own.
        linking = ["-shared", str(engine), f"-Wl,-rpath,{engine.parent}", f"-Wl,-T,{fragment}",
                   "-nodefaultlibs", "-lstdc++", "-lm", "-lgcc_s", "-lgcc", "-lc"]
        _run([compiler()[0], str(compiled), *linking, "-o", str(path)], str(version.path))
    return _cached(f"{version.name}{'-checked' if checked else ''}-{{}}.so",
                   [version.digest, text, entries, headers, *flags, str(engine)], make)
