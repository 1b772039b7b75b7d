"""Train one of the bench's own small networks, to be a parent: `bench train bench:conv8-adv`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from bench.attack.engine import Trial
from bench.attack.judge import correct
from bench.dataset import Dataset
from bench.errors import UsageError
from bench.files import atomic
from bench.load.architectures import SCHEDULES
from bench.load.architectures.schedule import Schedule
from bench.load.datasets import load_dataset
from bench.load.first_use import cached_path, trained
from bench.load.layout import channels_last
from bench.machine.tensor_float import forbid_tensor_float
from bench.model import ModelSpec, Subject
from bench.parent import fit_schedule, task_of
from bench.pgd20 import pgd20
from bench.progress import Report
from bench.recipe import Meter
from bench.recipe_form import toml_value
from bench.registry import did_you_mean
from bench.track import Track
from bench.verdicts import Proportion

LOOKED_AT = 1000
"""Test images that a fresh parent is shown: enough to see that training worked, and no verdict."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A parent that is ready.

    Attributes:
        model: what --model takes to start from it.
        schedule: how it was trained.
        file: its weights.
        clean: of the first test images, those it classifies correctly.
        pgd20: of the same, those that stand PGD-20 within the track's threat model.
        meter: what training cost; None where an earlier run had done it.
    """

    model: str
    schedule: Schedule
    file: Path
    clean: Proportion
    pgd20: Proportion
    meter: Meter | None


def train(
    spec: ModelSpec, track: Track, assignments: list[str], out: Path | None, device: torch.device, report: Report
) -> Trained:
    """Train a network from scratch for a track, or find the one that the same settings have given before.

    Args:
        spec: `bench:NAME`, one that is trained on first use.
        track: its data set, and the threat model of adversarial training.
        assignments: settings of the schedule to change, "epochs=20".
        out: where to put the weights; None leaves them where `bench evaluate` finds them.
        device: where to train.
        report: told how far it is.

    Raises:
        UsageError: no such network, no such setting, settings of one's own without `out`, or a file that is there.
    """
    if spec.source != "bench" or spec.name not in SCHEDULES:
        hint = did_you_mean(str(spec), [f"bench:{name}" for name in SCHEDULES])
        raise UsageError(f"Expected a network that the bench can train, got {spec}.{hint}")
    forbid_tensor_float()
    schedule = changed(SCHEDULES[spec.name], assignments)
    if schedule != SCHEDULES[spec.name] and out is None:
        raise UsageError(
            f"{spec} is the network of its own schedule: give one with other settings a file, --out FILE.safetensors."
        )
    if out is not None and out.exists():
        raise UsageError(f"There is {out} already; choose another name, or move it away.")
    dataset = load_dataset(track.dataset)
    task, costs = task_of(dataset, track.threat), []

    def fit(network: nn.Module, schedule: Schedule) -> None:
        costs.append(fit_schedule(spec.name, network, schedule, dataset, track.threat, device, report))

    network = channels_last(trained(spec.name, task, fit, schedule), dataset.image_shape).to(device)
    file, model = cached_path(spec.name, task, schedule), str(spec)
    if out is not None:
        with atomic(out) as temporary:
            shutil.copyfile(file, temporary)
        file, model = out, f"checkpoint:{out}@{spec}"
    clean, robust = _look(network, dataset, track, device)
    return Trained(
        model=model, schedule=schedule, file=file, clean=clean, pgd20=robust, meter=costs[0] if costs else None
    )


def changed(schedule: Schedule, assignments: list[str]) -> Schedule:
    """Return the schedule with some settings changed, each given as `epochs=20`.

    Raises:
        UsageError: not an assignment, no such setting, or not a value it can have.
    """
    settings: dict[str, Any] = dataclasses.asdict(schedule)
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or key not in settings:
            raise UsageError(f"Expected --set KEY=VALUE (epochs=20), got '{assignment}'.{did_you_mean(key, settings)}")
        try:
            settings[key] = toml_value(value)
            schedule = TypeAdapter(Schedule).validate_json(json.dumps(settings), strict=True)
        except (TypeError, ValidationError) as error:
            was = type(getattr(schedule, key)).__name__
            raise UsageError(f"Expected {key} to be of type {was}, got '{value}'.") from error
    return schedule


def _look(network: nn.Module, dataset: Dataset, track: Track, device: torch.device) -> tuple[Proportion, Proportion]:
    """Return clean accuracy, and accuracy under PGD-20, on the first test images."""
    trial = Trial(
        subject=Subject.of(network),
        examples=dataset.test.first(LOOKED_AT),
        threat=track.threat,
        n_classes=dataset.n_classes,
        seed=track.seed,
        device=device,
    )
    n = len(trial.examples)
    right = int(correct(network, *trial.batch(list(range(n)))).sum())
    return Proportion(count=right, total=n), Proportion(count=sum(pgd20(trial)), total=n)
