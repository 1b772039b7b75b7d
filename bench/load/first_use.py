"""Small networks trained when first asked for, then kept: a benchmark that needs no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from bench.errors import UsageError
from bench.files import atomic, cache_dir
from bench.load.architectures import SCHEDULES, build
from bench.load.architectures.schedule import Schedule
from bench.load.checkpoints import fill, read_state_dict
from bench.model import Task


def trained(
    name: str, task: Task, fit: Callable[[nn.Module, Schedule], None], schedule: Schedule | None = None
) -> nn.Module:
    """Return the network `name`, from the cache or trained now by `fit` and cached; by its own schedule unless told.

    Guarantees:
        Fresh weights depend on the schedule's seed alone, and the caller's random state is left as it was.

    Raises:
        UsageError: training ended in weights that are not finite.
    """
    schedule = schedule or SCHEDULES[name]
    path = cached_path(name, task, schedule)
    network = fresh(name, task, schedule.seed)
    if path.is_file():
        try:
            fill(network, read_state_dict(path), path=path, architecture=f"bench:{name}")
        except UsageError:  # our own file, damaged or of an older architecture: worth a new one, not a message
            path.unlink(missing_ok=True)
        else:
            return network.eval()
    fit(network, schedule)
    network.cpu().eval()
    _save(network, path, name)
    return network


def fresh(name: str, task: Task, seed: int) -> nn.Module:
    """Return the untrained network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would also reseed devices, which nothing here restores.
        torch.default_generator.manual_seed(seed)
        return build(name, task.image_shape, task.n_classes)


def cached_path(name: str, task: Task, schedule: Schedule | None = None) -> Path:
    """Return where the trained network lives; what it learned from and every setting are in the file's name."""
    schedule = schedule or SCHEDULES[name]
    key = {
        "architecture": name,
        "dataset": (task.dataset, task.train),
        "image_shape": list(task.image_shape),
        "n_classes": task.n_classes,
        "schedule": asdict(schedule),
        "threat": (task.norm, str(task.eps)) if schedule.adversarial else None,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir() / "models" / f"{name}-{task.dataset}-{digest}.safetensors"


def _save(network: nn.Module, path: Path, name: str) -> None:
    from safetensors.torch import save_file

    tensors = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    if not all(value.isfinite().all() for value in tensors.values()):
        raise UsageError(f"Training bench:{name} gave weights that are not finite; check the data set's images.")
    with atomic(path) as temporary:
        save_file(tensors, temporary)
