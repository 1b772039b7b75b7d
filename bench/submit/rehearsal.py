"""The whole line on a tiny network and made-up images, in seconds: does a recipe work at all, and do its own steps?"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import torch
from torch import nn

from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.suites import Budget, further
from bench.compress.export import deploy
from bench.compress.sealed import seal, unseal
from bench.compression import is_finetuning
from bench.dataset import Dataset, Examples
from bench.errors import BenchError, UsageError
from bench.model import Subject
from bench.prepare import take_steps
from bench.progress import silent
from bench.recipe import Ingredients, Meter, Recipe, Step
from bench.run.journal import FileJournal
from bench.stages import compare_twin, measure, raise_alarms, stand_trial
from bench.threat_model import ThreatModel, parse_eps

SHAPE, CLASSES = (1, 8, 8), 10
_TRAIN, _TEST = 96, 4
_CPU = torch.device("cpu")
_SHORT = Budget(iterations=2, targets=2, queries=10, deployed_queries=5)


def rehearse(recipe: Recipe) -> str:
    """Prepare, deploy, attack, judge and measure, each with the smallest budget; return a line about what came out.

    The recipe's own steps, if it has any, are registered already.

    Raises:
        BenchError: a stage refuses what it is given.
    """
    data, parent = _dataset(), _parent()
    start = Subject.of(parent)
    subject = take_steps(start, _shortened(recipe), recipe, _ingredients(data.train, steps=len(recipe.steps)))
    artefact, before = deploy(subject, SHAPE), deploy(start, SHAPE)
    accused = stand_trial(subject, artefact, compressed=bool(recipe.steps))
    agrees = compare_twin(accused, artefact, data.test, _CPU)
    trial = Trial(
        subject=accused,
        examples=data.test,
        threat=_threat(),
        n_classes=CLASSES,
        seed=0,
        device=_CPU,
        engine=BenchEngine(budget=_SHORT),
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = FileJournal(Path(folder) / "journal.json")
        outcome = run_suite(trial, "standard", further=further(trial.subject), journal=journal, report=silent)
    raise_alarms(trial, outcome, agrees)
    ours, theirs = measure(subject, artefact, before, data, timed=False)
    return f"{artefact.kind}, BOPs ×{ours.bops / theirs.bops:.2g}, {len(outcome.attacks)} attacks"


def rehearse_step(recipe: Recipe, position: int) -> str:
    """Hold one step to its contract, after those before it; return a line about it.

    Raises:
        BenchError: it breaks its contract.
    """
    steps, train = _shortened(recipe), _dataset().train
    earlier = dataclasses.replace(recipe, steps=recipe.steps[:position])
    only = dataclasses.replace(recipe, steps=(recipe.steps[position],))
    parent = _parent()
    given = take_steps(Subject.of(parent), steps[:position], earlier, _ingredients(train, steps=9))
    images, made = train.pixels(slice(8)), []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            state = torch.manual_seed(seed).get_state().clone()
            ingredients = _ingredients(train, steps=9)
            made.append(take_steps(given, steps[position : position + 1], only, ingredients).twin)
            if not torch.equal(torch.get_rng_state(), state):
                raise UsageError("it draws from PyTorch's global generator; use ingredients.generator.")
    with torch.no_grad():
        one, other = made[0](images), made[1](images)
    if not torch.equal(one, other):
        raise UsageError("two runs from the same generator differ; draw all randomness from ingredients.generator.")
    if not _moves(made[0], images):
        raise UsageError("no gradient reaches the image through its network; attacks on it would mean nothing.")
    if is_finetuning(recipe.steps[position]["step"]) and not ingredients.meter.backward:
        raise UsageError("it fine-tunes and counts nothing; call ingredients.meter.passes for each batch.")
    return f"deterministic, parent untouched, gradients reach the image, {_saved(made[0], images)}"


def _moves(network: nn.Module, images: torch.Tensor) -> bool:
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(images)
        if not logits.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images, allow_unused=True, materialize_grads=True)
    return bool((gradient != 0).any())


def _saved(network: nn.Module, images: torch.Tensor) -> str:
    """Say whether the network can be saved; if not, it is attacked in the process that ran the step."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        try:
            seal(network, SHAPE, {}, Path(folder))
            same = torch.equal(unseal(Path(folder), _CPU).network(images), network(images))
        except BenchError as error:
            return f"cannot be saved ({error})"
    return "can be saved" if same else "changes when it is saved"


def _shortened(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps, those that say for how many epochs with a single one."""
    return tuple(
        dataclasses.replace(step, epochs=1) if getattr(step, "epochs", None) is not None else step  # type: ignore[type-var]
        for step in recipe.resolve()
    )


def _ingredients(train: Examples, *, steps: int) -> Ingredients:
    return Ingredients(
        train=train,
        threat=_threat(),
        finetune_images=_TRAIN * max(1, steps),
        generator=torch.Generator().manual_seed(0),
        device=_CPU,
        report=silent,
        meter=Meter(),
    )


def _threat() -> ThreatModel:
    return ThreatModel(norm="Linf", eps=parse_eps("8/255"))


def _dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def made_up(n: int) -> Examples:
        images = torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=generator)
        return Examples(images=images, labels=torch.randint(CLASSES, (n,), generator=generator))

    return Dataset(name="made-up", train=made_up(_TRAIN), test=made_up(_TEST), n_classes=CLASSES)


def _parent() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
        second = [nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*first, *second, nn.Linear(16 * 9, 32), nn.ReLU(), nn.Linear(32, CLASSES)).eval()
