"""Where networks run."""

from __future__ import annotations

import torch

from bench.errors import MissingError, UsageError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes CUDA where there is one.

    Raises:
        UsageError: no such device.
        MissingError: a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Expected --device auto, cpu or cuda, got '{name}'.") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Expected --device auto, cpu or cuda, got '{name}'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"There is no device '{name}' here ({torch.cuda.device_count()} CUDA devices); use cpu.")
    return device


def deployed_threads(device: torch.device) -> int:
    """Return how many threads the deployed model answers with: one on a CPU, whose cores the attack needs."""
    return 1 if device.type == "cpu" else torch.get_num_threads()


def device_name(device: torch.device) -> str:
    """Return "cpu", or the accelerator's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
