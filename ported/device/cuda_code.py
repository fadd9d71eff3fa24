"""How a .cu version becomes one translation unit, for nvcc and for the emulated device alike.

The unit says the types of the roles and the values of compile-time parameters, then takes in
`cuda_src/common.cuh` and the version's file. Nothing else differs between the two.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ported.contract import ROOT
from ported.device import DeviceError
from ported.device.cpu import cache_directory
from ported.precision import Precision
from ported.source import Version

C_TYPE = {"float32": "float", "bfloat16": "__nv_bfloat16"}
FLAGS = ("-std=c++17", "-O3", "-lineinfo")
ARCHITECTURES = ("sm_80", "sm_90a")
COMMON = ROOT / "cuda_src"


def prelude(precision: Precision, values: Mapping[str, int]) -> str:
    """What stands before a version's own text: role types, common.cuh, parameters as constants."""
    types = [f"#define ROLE_{role} {C_TYPE[precision.dtypes[role]]}" for role in "FRPG"]
    constants = [f"constexpr int {name} = {value};" for name, value in values.items()]
    return "\n".join([*types, '#include "common.cuh"', *constants, ""])


def values_of(version: Version, axes: Mapping[str, int],
              parameters: Mapping[str, int]) -> dict[str, int]:
    """What the compiler is told: tuned parameters, `block`, and the `static` axes."""
    return {**parameters, **{axis: axes[axis] for axis in version.static}}


@functools.cache
def nvcc() -> tuple[str, str]:
    """CUDA's compiler and its identity. DeviceError where there is none."""
    wanted = os.environ.get("NVCC")
    path = shutil.which(wanted or "nvcc") or next(
        (str(p) for p in _installed("bin/nvcc") if os.access(p, os.X_OK)), None)
    if path is None:
        raise DeviceError("no CUDA compiler: looked for nvcc on PATH and in Python's packages; "
                          "install CUDA's toolkit, or pip install nvidia-cuda-nvcc nvidia-nvvm "
                          "nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl (13.0), or set "
                          "NVCC to its path")
    state = os.stat(os.path.realpath(path))
    return path, f"{os.path.realpath(path)}:{state.st_size}:{state.st_mtime_ns}"


@functools.cache
def include_directory() -> Path:
    """The folder of cuda_bf16.h: of nvcc's own toolkit, else of pip's wheels.

    Raises DeviceError that says what to install."""
    places = [Path(word).resolve() for word in _dryrun_includes()]
    places += _installed("include")
    for place in places:
        if (place / "cuda_bf16.h").is_file():
            return place
    raise DeviceError("no CUDA headers: looked for cuda_bf16.h in nvcc's toolkit and in Python's "
                      "packages; pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl "
                      "(no GPU is needed)")


def _dryrun_includes() -> list[str]:
    """Where nvcc itself looks for headers, as its dry run says."""
    try:
        path, _ = nvcc()
    except DeviceError:
        return []
    result = subprocess.run([path, "--dryrun", "-x", "cu", os.devnull], capture_output=True,
                            text=True)
    line = next((x for x in result.stderr.splitlines() if "INCLUDES=" in x), "")
    return re.findall(r'-I([^"\s]+)', line)


def _installed(name: str) -> list[Path]:
    """A file of CUDA's pip wheels (nvidia-cuda-*), which unpack into nvidia/cu13."""
    import sysconfig

    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13"
    return [folder / name] if (folder / name).exists() else []


def cubin(version: Version, precision: Precision, values: Mapping[str, int],
          architecture: str = "sm_90a", extra: tuple[str, ...] = ()) -> Path:
    """The machine code of one version, from the cache or compiled now. Addressed by content:
    source without comments, types, values, flags and compiler."""
    path, identity = nvcc()
    text = prelude(precision, values)
    number = architecture.removeprefix("sm_")
    flags = [*FLAGS, *version.flags, *extra, f"-gencode=arch=compute_{number},code=sm_{number}"]
    key = "\n".join([version.digest, text, *flags, identity])
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    built = cache_directory() / "cuda" / f"{version.name}-{architecture}-{digest}.cubin"
    if built.is_file():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        unit, out = Path(scratch) / "unit.cu", Path(scratch) / "unit.cubin"
        file = version.path.resolve()
        unit.write_text(f'{text}#include "{file}"\n')
        command = [path, *flags, "-cubin", "-I", str(COMMON), "-I", str(file.parent), str(unit),
                   "-o", str(out)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            message = "\n".join((result.stderr + result.stdout).splitlines()[:20])
            raise DeviceError(f"{version.path}: does not compile for {architecture}:\n{message}\n"
                              f"the command: {' '.join(command)}")
        os.replace(out, built)
    return built
