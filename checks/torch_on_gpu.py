"""PyTorch on a GPU: there, or an error that says what was found and what to type."""

import sys

import torch

from ported.device import DeviceError


def require() -> None:
    """Raises DeviceError where PyTorch reaches no GPU: nothing is compared with its processor side
    instead."""
    if not torch.cuda.is_available():
        raise DeviceError(
            f"found PyTorch {torch.__version__}, which reaches no GPU; expected a build with CUDA "
            "(what is timed or compared here is PyTorch's on the same GPU). PyPI's build for Linux "
            f"is one: {sys.executable} -m pip install --force-reinstall torch==2.13.0")
