"""What a cell may cost before it runs: passes at most, and seconds by a short timing of its parent."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from bench.attack.suites import SUITES, Passes, further, passes
from bench.compression import Compression, is_finetuning
from bench.dataset import Dataset, Examples
from bench.errors import BenchError
from bench.load.architectures.schedule import Schedule
from bench.load.datasets import load_dataset
from bench.load.foreign import blaming
from bench.load.models import load_model
from bench.load.own_steps import own_steps
from bench.measure.macs import count_macs
from bench.model import Subject
from bench.parent import open_sealed, task_of
from bench.pgd20 import STEPS
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.request import Request
from bench.sweep import Cell, Cost

SLOWER_TWIN = 2.0
"""A pass of a quantised twin takes at most so many times one of its float parent; measured: 1.3 to 1.8 times."""
_SAMPLE, _TIMED = 64, 32


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """What an image costs on one parent: seconds forward, of a gradient to the image, and of one to the weights."""

    macs: int
    forward: float
    attack: float
    training: float
    untrained: bool


class _UntrainedError(Exception):
    """Carries a network out of a loader that would have trained it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def forecast(cells: Sequence[Cell], device: torch.device) -> dict[str, Cost | str]:
    """Return each cell's upper bound by its title; or why none can be told: data or weights that are not here.

    Nothing is trained, compressed or attacked; each parent makes a few passes.
    """
    paces: dict[tuple[str, str], _Pace | str] = {}
    datasets = cache(load_dataset)
    costs: dict[str, Cost | str] = {}
    for cell in cells:
        request = cell.request
        who = (str(request.model), request.track.name)
        try:
            if who not in paces:
                paces[who] = _pace(request, datasets(request.track.dataset), device)
        except BenchError as error:
            paces[who] = str(error)
        found = paces[who]
        try:
            costs[cell.title] = found if isinstance(found, str) else _cost(cell, found, datasets(request.track.dataset))
        except BenchError as error:  # a step may refuse the network of one layer that tells what it would cost
            costs[cell.title] = str(error)
    return costs


def _cost(cell: Cell, pace: _Pace, dataset: Dataset) -> Cost:
    request = cell.request
    attack = [passes(name, dataset.n_classes) for name in (*SUITES[request.track.suite], *further_at_most(cell))]
    attack.append(Passes(forward=STEPS + 2, backward=STEPS))  # PGD-20 beside them, the judge's look included
    forward, backward = sum(one.forward for one in attack), sum(one.backward for one in attack)
    tuned = finetuning_at_most(cell, dataset)
    slower = SLOWER_TWIN if "quantised" in Compression.of_steps(cell.steps).kinds else 1.0
    alone = max(tuned.forward - tuned.backward, 0)
    seconds = tuned.backward * pace.training + alone * pace.forward
    seconds += request.images * (backward * pace.attack + (forward - backward) * pace.forward)
    return Cost(
        macs=pace.macs,
        finetune_forward=tuned.forward,
        finetune_backward=tuned.backward,
        attack_forward=request.images * forward,
        attack_backward=request.images * backward,
        seconds=slower * seconds,
        untrained=pace.untrained,
    )


def further_at_most(cell: Cell) -> tuple[str, ...]:
    """Return the attacks that a cell may face after its track's suite: a step may round that is not known to."""
    rounds = not {"quantised", "other"}.isdisjoint(Compression.of_steps(cell.steps).kinds)
    twin, another = nn.Identity(), nn.Identity()
    parent, deployed = another if cell.steps else twin, another if rounds else twin
    return further(Subject(twin=twin, parent=parent, deployed=deployed, surrogate=another if rounds else None))


def finetuning_at_most(cell: Cell, dataset: Dataset) -> Meter:
    """Return what a cell's fine-tuning may cost: its steps tell, on a few images and a network of one layer."""
    request, total = cell.request, Meter()
    train, budget = dataset.train, request.track.finetune_images
    with own_steps(request.recipe):
        steps = request.recipe.resolve()
    for step, table in zip(steps, cell.steps, strict=True):
        if not is_finetuning(table["step"]):
            continue
        epochs = table.get("epochs")
        images = min(budget - total.images, round(epochs * len(train)) if epochs else budget)
        if images <= 0:  # what is over budget is refused when the cell runs
            continue
        meter = Meter()
        network = nn.Sequential(nn.Flatten(), nn.Linear(train.images[0].numel(), dataset.n_classes))
        few = Examples(images=train.images[:_SAMPLE], labels=train.labels[:_SAMPLE])
        once = dataclasses.replace(step, epochs=None) if epochs else step  # type: ignore[type-var]
        code = request.recipe.own_code
        with blaming(Path(code.file)) if code and request.recipe.is_own(str(table["step"])) else nullcontext():
            once(
                Subject.of(network),
                Ingredients(
                    train=few,
                    threat=request.track.threat,
                    finetune_images=_SAMPLE,
                    generator=torch.Generator().manual_seed(0),
                    device=torch.device("cpu"),
                    report=silent,
                    meter=meter,
                ),
            )
        share = images / max(meter.images, 1)
        total.images += images
        total.forward += round(share * meter.forward)
        total.backward += round(share * meter.backward)
    return total


def _pace(request: Request, dataset: Dataset, device: torch.device) -> _Pace:
    def fit(network: nn.Module, schedule: Schedule) -> None:
        raise _UntrainedError(network)

    untrained = False
    try:
        network = load_model(
            request.model, task_of(dataset, request.track.threat), trust=request.trust, fit=fit, unseal=open_sealed
        )
    except _UntrainedError as error:
        network, untrained = error.network.eval(), True
    macs = count_macs(network, dataset.image_shape).macs
    network = network.to(device)
    images = dataset.test.first(_TIMED).pixels().to(device)
    labels = dataset.test.first(_TIMED).labels.to(device)

    @torch.no_grad()
    def forward() -> None:
        network(images).sum().item()

    def attack() -> None:
        moved = images.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(network(moved), labels), moved)[0].sum().item()

    def training() -> None:
        F.cross_entropy(network(images), labels).backward()
        network.zero_grad(set_to_none=True)

    paces = [_seconds(work) / len(images) for work in (forward, attack, training)]
    return _Pace(macs=macs, forward=paces[0], attack=paces[1], training=max(paces[1:]), untrained=untrained)


def _seconds(work: Callable[[], None]) -> float:
    """Time a piece of work: the better of two, after one that warms up."""
    work()
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
