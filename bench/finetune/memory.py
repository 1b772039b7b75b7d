"""How much memory training took."""

from __future__ import annotations

import sys

import torch


def start_counting(device: torch.device) -> None:
    """Forget the device's earlier peak, where it can be forgotten: on CUDA."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Return the most bytes held since then on CUDA, and on a CPU by the process since it began; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
