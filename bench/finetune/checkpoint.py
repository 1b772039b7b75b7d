"""An unfinished training on the disk: whoever asks for the same training again continues where it stopped."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.files import atomic
from bench.finetune.average import Average
from bench.finetune.watch import Snapshot, Watch

if TYPE_CHECKING:
    from bench.recipe import Meter

_FILE = "epoch.pt"


@dataclass(frozen=True, kw_only=True)
class Course:
    """Everything that changes while a network is trained.

    Attributes:
        model: the network.
        optimizer: of its parameters.
        generator: where all randomness comes from.
        watch: remembers epochs.
        average: of the weights; None where there is none.
        meter: counts passes; None where nobody counts.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    watch: Watch
    average: Average | None = None
    meter: Meter | None = None


def save(course: Course, step: int, folder: Path) -> None:
    """Write the state after `step` steps, atomically.

    Raises:
        MissingError: the folder cannot be written.
    """
    state: dict[str, Any] = {
        "step": step,
        "model": course.model.state_dict(),
        "optimizer": course.optimizer.state_dict(),
        "generator": course.generator.get_state(),
        "watch": {
            **{name: _plain(getattr(course.watch, name)) for name in ("good", "best")},
            "stale": course.watch.stale,
            "stopped": course.watch.stopped,
        },
    }
    if course.average is not None:
        state["average"] = {"network": course.average.network.state_dict(), "steps": course.average.steps}
    if course.meter is not None:
        state["meter"] = dataclasses.asdict(course.meter)
    with atomic(folder / _FILE) as temporary:
        torch.save(state, temporary)


def restore(course: Course, folder: Path) -> int:
    """Bring everything to where the folder's training stopped.

    Returns:
        How many steps that was; 0 if there is none, or none that can be read.

    Guarantees:
        Nothing in the file is executed.
    """
    if not (folder / _FILE).is_file():
        return 0
    try:
        state = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file may raise anything, and costs no more than starting afresh
        return 0
    course.model.load_state_dict(state["model"])
    course.optimizer.load_state_dict(state["optimizer"])
    course.generator.set_state(state["generator"])
    watch, device = state["watch"], next(course.model.parameters()).device
    course.watch.good, course.watch.best = (_snapshot(watch[name], device) for name in ("good", "best"))
    course.watch.stale, course.watch.stopped = watch["stale"], watch["stopped"]
    if course.average is not None:
        course.average.network.load_state_dict(state["average"]["network"])
        course.average.steps = state["average"]["steps"]
    if course.meter is not None:
        for name, value in state["meter"].items():
            setattr(course.meter, name, value)
    step: int = state["step"]
    return step


def _plain(snapshot: Snapshot | None) -> dict[str, Any] | None:
    """Return a snapshot as what torch.load takes without a pickle's code."""
    return None if snapshot is None else dict(vars(snapshot))


def _snapshot(plain: dict[str, Any] | None, device: torch.device) -> Snapshot | None:
    if plain is None:
        return None
    state = {name: value.to(device) for name, value in plain["state"].items()}
    return Snapshot(state=state, epoch=plain["epoch"], score=tuple(plain["score"]))
