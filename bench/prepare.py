"""Apply a recipe, once: the finished model is sealed in a folder, and the attack starts from what the folder holds."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.budget import share
from bench.compress.norms import settle_norms
from bench.compress.sealed import Sealed, digest_of, is_sealed, seal, unseal
from bench.contract import digest_of_weights, take_foreign
from bench.dataset import Dataset, Examples
from bench.errors import MissingError, UsageError
from bench.files import cache_dir
from bench.load.own_steps import own_steps
from bench.model import Classifier, ModelSpec, Subject
from bench.plugins import packages_of
from bench.progress import Event, Report
from bench.provenance import code_digest
from bench.recipe import STEPS, Ingredients, Meter, Recipe, Step, settings
from bench.request import Request
from bench.run.apart import prepare_apart

if TYPE_CHECKING:
    from bench.entry import Entry


LOOKED_AT = 64
MODEL = ".model"
COLLAPSED = (
    "the network now names one class for every image; if fine-tuning that follows does not change that, try schedule = "
    "'one-cycle', a smaller learning_rate, or a longer ramp where it is trained on attacked images"
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came out of a recipe.

    Attributes:
        subject: its twin is the network that was saved and loaded again, where it could be.
        digest: names exactly this model; None where it could not be saved.
        meter: what fine-tuning cost.
        seconds: how long compressing and fine-tuning took, whenever that was.
        steps: every setting of every step.
        isolated: whether this process did without the recipe's own steps, because another one took them, or has none.
        unsealed: why it could not be saved; "" where it was.
    """

    subject: Subject
    digest: str | None
    meter: Meter
    seconds: float
    steps: tuple[dict[str, Any], ...]
    isolated: bool = False
    unsealed: str = ""


def prepare(request: Request, parent: nn.Module, dataset: Dataset, device: torch.device, report: Report) -> Prepared:
    """Apply the recipe to the parent; or find the model that the same question has given before.

    Steps of a submission's own are taken in another process, and what is judged here is what that process sealed. Where
    it cannot seal the model, they are taken once more in this one, and the entry says so.

    Guarantees:
        The network that is returned is the one in the folder, not the one that the steps left in memory. Fine-tuning
        that was interrupted goes on after its last whole epoch, and gives the same weights as one that was not (on CUDA
        up to rounding).

    Raises:
        UsageError: a step refuses the subject it is given; the sentence names the step.
    """
    folder = _folder(request, parent, dataset, device)
    kept = None if request.fresh else _recall(folder, device)
    if kept is not None:
        report(Event(stage="compress", note="the model of an earlier run, from the cache (--fresh makes it again)"))
        return _prepared(kept, parent)
    if request.recipe.own_code is None:
        return make(request, parent, dataset, device, report)
    if (unsealed := prepare_apart(request, report)) is not None:
        report(Event(stage="compress", note=f"its own steps are taken in this process, too: {unsealed}"))
        return make(dataclasses.replace(request, fresh=False), parent, dataset, device, report)
    if (kept := _recall(folder, device)) is None:
        raise UsageError(
            f"Expected the process that ran {request.recipe.own_code.file} to save a model in {folder}, got none: "
            f"{request.model} differs from one process to the next."
        )
    return _prepared(kept, parent)


def make(request: Request, parent: nn.Module, dataset: Dataset, device: torch.device, report: Report) -> Prepared:
    """Apply the recipe to the parent in this process, its own steps included, and seal what comes out.

    Raises:
        UsageError: a step refuses the subject it is given, or breaks its contract; the sentence names the step.
    """
    with own_steps(request.recipe):
        return _made(request, parent, request.recipe.resolve(), dataset, device, report)


def _made(
    request: Request, parent: nn.Module, steps: tuple[Step, ...], dataset: Dataset, device: torch.device, report: Report
) -> Prepared:
    folder = _folder(request, parent, dataset, device)
    unfinished = cache_dir() / "unfinished-training" / folder.name
    if request.fresh:
        shutil.rmtree(unfinished, ignore_errors=True)
    meter, started = Meter(), time.perf_counter()
    ingredients = ingredients_of(request, dataset, device, report, meter, unfinished)
    subject = take_steps(Subject.of(parent), steps, request.recipe, ingredients)
    seconds = round(time.perf_counter() - started, 2)
    about: dict[str, Any] = {
        "model": str(request.model),
        "dataset": dataset.name,
        "track": request.track.name,
        "recipe": request.recipe.name,
        "steps": list(settings(steps, request.recipe)),
        "seed": request.seed,
        "sparse": subject.sparse,
        "finetuning": dataclasses.asdict(meter),
        "seconds": seconds,
    }
    try:
        seal(subject.twin, dataset.image_shape, about, folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    except UsageError as error:
        report(Event(stage="compress", note=f"cannot be saved, so it is attacked as it is in memory: {error}"))
        complete = tuple(about["steps"])
        return Prepared(subject=subject, digest=None, meter=meter, seconds=seconds, steps=complete, unsealed=str(error))
    made = _prepared(unseal(folder, device), parent)
    return dataclasses.replace(made, isolated=request.recipe.own_code is None)


def ingredients_of(
    request: Request, dataset: Dataset, device: torch.device, report: Report, meter: Meter, checkpoints: Path | None
) -> Ingredients:
    """Return what the steps of a recipe get: of the data set, its training images."""
    return Ingredients(
        train=dataset.train,
        threat=request.track.threat,
        finetune_images=request.track.finetune_images,
        generator=torch.Generator().manual_seed(request.seed),
        device=device,
        report=report,
        meter=meter,
        checkpoints=checkpoints,
    )


def take_steps(subject: Subject, steps: tuple[Step, ...], recipe: Recipe, ingredients: Ingredients) -> Subject:
    """Apply a recipe's steps in order; then fold the batch-norms that a quantised network kept while it was trained.

    Raises:
        UsageError: a step refuses the subject it is given; the sentence names the step.
    """
    for position, (table, step) in enumerate(zip(recipe.steps, steps, strict=True)):
        ingredients.report(Event(stage=table["step"]))
        own = ingredients.checkpoints and ingredients.checkpoints / str(position)
        used, budget = ingredients.meter.images, ingredients.finetune_images
        left = share(step, steps[position + 1 :], used=used, budget=budget, n=len(ingredients.train))
        given = dataclasses.replace(ingredients, checkpoints=own, finetune_images=left)
        foreign = "/" in table["step"]  # a submission's, or a plugin's
        try:
            subject = take_foreign(step, table["step"], recipe, subject, given) if foreign else step(subject, given)
        except UsageError as error:
            raise UsageError(f"Recipe {recipe.name}, step {table['step']}: {error}") from error
        if tells_nothing_apart(subject.twin, ingredients.train, ingredients.device):
            ingredients.report(Event(stage=table["step"], note=COLLAPSED))
    twin = settle_norms(subject.twin)
    return subject if twin is subject.twin else dataclasses.replace(subject, twin=twin, deployed=twin)


@torch.no_grad()
def tells_nothing_apart(model: Classifier, train: Examples, device: torch.device) -> bool:
    """Say whether a network names one class for training images from all over the set, which are of several."""
    index = torch.linspace(0, len(train) - 1, LOOKED_AT).long().to(train.labels.device)
    named, labels = model(train.pixels(index).to(device)).argmax(1), train.labels[index]
    return bool((named == named[0]).all()) and not bool((labels == labels[0]).all())


def sealed_folder(entry: Entry, beside: Path) -> Path:
    """Return the folder that holds exactly the model an entry was measured on: published beside it, or in the cache.

    Args:
        entry: measured here or elsewhere.
        beside: the folder that the entry is in.

    Raises:
        MissingError: it could not be saved then, or this machine does not have it.
    """
    if entry.sealed is None:
        raise MissingError(f"The model of {entry.name} could not be saved; only its recipe can make it again.")
    for folder in (published_model(entry, beside), *sorted((cache_dir() / "compressed").glob("*"))):
        with suppress(ValueError, KeyError, OSError):  # a damaged one is not the one
            if is_sealed(folder) and digest_of(folder) == entry.sealed:
                return folder
    raise MissingError(
        f"The model of {entry.name} is not in {cache_dir() / 'compressed'}; make it again: {entry.command}."
    )


def published_model(entry: Entry, beside: Path) -> Path:
    """Return where the model of an entry is published, if it is."""
    return beside / f"{entry.name}{MODEL}"


def publish(entry: Entry, place: Path) -> None:
    """Put the model of an entry, which was just made, where another one was published; remove that."""
    shutil.rmtree(place)
    if entry.sealed is not None:
        shutil.copytree(sealed_folder(entry, place.parent), place)


def own_code(model: ModelSpec) -> tuple[str, ...]:
    """Return the source of a `python:` model: its forward pass may change while its weights stay."""
    files = [part.partition(".py:")[0] + ".py" for part in f"{model}".split("python:")[1:]]
    return tuple(Path(file).read_text(encoding="utf-8") for file in files)


def _folder(request: Request, parent: nn.Module, dataset: Dataset, device: torch.device) -> Path:
    """Return where the model is kept, named after everything that decides what the steps make of the parent."""
    recipe = request.recipe
    asked: dict[str, Any] = {
        # Two models may have the same weights and different constants, or a different graph.
        "parent": (str(request.model), digest_of_weights(parent)),
        "own code": own_code(request.model),
        "steps": recipe.declared(),
        "seed": request.seed,
        "budget": request.track.finetune_images,
        "threat": (request.track.norm, str(request.track.eps)),
        "train": dataset.train.digest,
        "code": (code_digest("compress", "finetune", "threat_model.py", "machine/tensor_float.py"), torch.__version__),
        "device": device.type,
    }
    if recipe.own_code is not None:
        asked["own steps"] = recipe.own_code.sha256
    if plugins := packages_of(table["step"] for table in recipe.steps):
        asked["plugins"] = plugins
        # An editable install keeps its version while its code changes.
        files = {inspect.getsourcefile(STEPS.get(name)) for table in recipe.steps if (name := table["step"]) in STEPS}
        asked["plugin code"] = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file)
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return cache_dir() / "compressed" / key


def _recall(folder: Path, device: torch.device) -> Sealed | None:
    try:
        return unseal(folder, device) if is_sealed(folder) else None
    except UsageError:  # our own file, cut short by a crash: worth a new one, not a message
        return None


def _prepared(sealed: Sealed, parent: nn.Module) -> Prepared:
    return Prepared(
        subject=Subject(twin=sealed.network, parent=parent, deployed=sealed.network, sparse=sealed.about["sparse"]),
        digest=sealed.digest,
        meter=Meter(**sealed.about["finetuning"]),
        seconds=sealed.about["seconds"],
        steps=tuple(sealed.about["steps"]),
        isolated=True,
    )
