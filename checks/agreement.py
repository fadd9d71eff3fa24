"""Whether named tensors of two float64 computations agree: the reference against itself."""

import torch

BOUND = 1e-12


def relative_error(found: torch.Tensor, truth: torch.Tensor, floor: float = 0.0) -> float:
    """L2 error of `found` over the L2 norm of `truth` (or over `floor`, if that is larger); 0 where
    both are zero."""
    error = torch.linalg.vector_norm(found.double() - truth.double()).item()
    norm = max(torch.linalg.vector_norm(truth.double()).item(), floor)
    return error / norm if norm else error


def assert_agree(found: dict, truth: dict, bound: float = BOUND, floor: float = 0.0) -> None:
    """Every tensor of `truth` is in `found`, of the same shape and within `bound`; all offenders
    are listed. A NaN agrees with nothing."""
    assert truth, "found nothing to compare"
    faults = []
    for name, expected in truth.items():
        if name not in found:
            faults.append(f"{name}: missing, found {', '.join(found)}")
        elif found[name].shape != expected.shape:
            faults.append(f"{name}: found shape {found[name].shape}, expected {expected.shape}")
        else:
            error = relative_error(found[name], expected, floor)
            if not error < bound:
                faults.append(f"{name}: found relative L2 error {error:.3g}, expected < {bound:g}")
    assert not faults, "\n".join(faults)
