"""One training loop for every objective."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bench.dataset import Examples
from bench.errors import UsageError
from bench.finetune import checkpoint
from bench.finetune.augment import augment
from bench.finetune.average import Average
from bench.finetune.checkpoint import Course
from bench.finetune.descent import Descent, move, new_optimizer
from bench.finetune.memory import peak_bytes, start_counting
from bench.finetune.pgd import forget
from bench.finetune.watch import Watch
from bench.machine.allocator import keep_freed_memory
from bench.machine.tensor_float import autotuned, tensor_float
from bench.model import grid_parameters
from bench.progress import Event, Report

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients, Meter

Objective = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Maps (model, images in [0, 1], labels, share of the training done) to a scalar loss."""


def finetune(
    subject: Subject,
    ingredients: Ingredients,
    descent: Descent,
    objective: Objective,
    stage: str,
    *,
    by: Literal["clean", "robust"] = "robust",
    restore: bool = False,
) -> Subject:
    """Return the subject with a further trained twin; the one passed in stays as it was.

    Args:
        subject: to be trained.
        ingredients: of the recipe.
        descent: settings of the step.
        objective: what is minimised.
        stage: the step's name, for events.
        by: the accuracy on held-out images that says which epoch was best.
        restore: whether catastrophic overfitting ends the training, with the last network before it.
    """
    twin, meter = copy.deepcopy(subject.twin), ingredients.meter
    examples, held = hold_out(ingredients.train, descent.holdout)
    images = descent.images(len(examples), ingredients.finetune_images - meter.images)
    watch = Watch(
        descent=descent,
        report=ingredients.report,
        stage=stage,
        threat=ingredients.threat,
        meter=meter,
        held=held and held.to(ingredients.device),
        by=by,
        restore=restore,
    )
    start_counting(ingredients.device)
    seen = train(
        twin,
        examples,
        objective,
        descent,
        images=images,
        generator=ingredients.generator,
        device=ingredients.device,
        report=ingredients.report,
        stage=stage,
        keep_zeros=subject.sparse,
        watch=watch,
        meter=meter,
        checkpoints=ingredients.checkpoints,
    )
    forget(twin)
    meter.images += seen
    meter.peak_bytes = max(meter.peak_bytes or 0, peak_bytes(ingredients.device) or 0) or None
    # Whoever is compressed later can have this network as its teacher.
    uncompressed = twin if subject.twin is subject.teacher else subject.uncompressed
    return dataclasses.replace(subject, twin=twin, deployed=twin, uncompressed=uncompressed)


def n_held_out(n: int, wanted: int) -> int:
    """Return how many of n training images are held out where so many are wanted: at most a tenth, one at least."""
    return max(1, min(wanted, n // 10)) if wanted else 0


def hold_out(examples: Examples, wanted: int) -> tuple[Examples, Examples | None]:
    """Return (images to train on, images held out): the same ones for every step of every recipe.

    Args:
        examples: the track's training images.
        wanted: how many to hold out, as far as `n_held_out` lets it; 0 for none.
    """
    n = n_held_out(len(examples), wanted)
    if n == 0:
        return examples, None
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).to(examples.images.device)
    kept, held = order[n:].sort().values, order[:n].sort().values
    return (
        Examples(images=examples.images[kept], labels=examples.labels[kept]),
        Examples(images=examples.images[held], labels=examples.labels[held]),
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What stays as it is while a network is trained."""

    examples: Examples
    objective: Objective
    descent: Descent
    batch_size: int
    steps: int
    sparse: list[tuple[Tensor, Tensor]]
    grids: list[nn.Parameter]
    report: Report
    stage: str
    checkpoints: Path | None


def train(
    model: nn.Module,
    examples: Examples,
    objective: Objective,
    descent: Descent,
    *,
    images: int,
    generator: torch.Generator,
    device: torch.device,
    report: Report,
    stage: str,
    keep_zeros: bool = False,
    watch: Watch | None = None,
    meter: Meter | None = None,
    checkpoints: Path | None = None,
) -> int:
    """Train `model` in place on `images` images, and leave it in evaluation mode.

    With `keep_zeros`, weights that are zero now are zero afterwards. Batch-norm statistics follow the images that the
    objective shows the network in training mode, those of a quantised one, too: its norms are folded after the last
    step of the recipe. Only where a norm does not follow a convolution directly (pre-activation networks), tracing has
    made it a constant.

    Returns:
        How many images it saw: fewer than `images` where the watch ended the training.

    Guarantees:
        With a folder for checkpoints, a training that was interrupted and started again gives the same weights as one
        that was not; on CUDA, where algorithms are chosen by their speed, up to rounding.

    Raises:
        UsageError: loss or weights stopped being finite; `model` is then that of the last good epoch, if there is one.
    """
    keep_freed_memory()
    examples = examples.to(device)
    model.to(device)
    batch_size = min(descent.batch_size, len(examples))
    plan = _Plan(
        examples=examples,
        objective=objective,
        descent=descent,
        batch_size=batch_size,
        steps=max(1, images // batch_size),
        sparse=_sparse(model) if keep_zeros else [],
        grids=grid_parameters(model),
        report=report,
        stage=stage,
        checkpoints=checkpoints,
    )
    course = Course(
        model=model,
        optimizer=new_optimizer(model, descent),
        generator=generator,
        watch=watch or Watch(descent=descent, report=report, stage=stage),
        average=Average(model, descent.average) if descent.average else None,
        meter=meter,
    )
    done = checkpoint.restore(course, checkpoints) if checkpoints else 0
    if done:
        report(Event(stage=stage, done=done, total=plan.steps, note=f"goes on after step {done} of an earlier run"))
    try:
        with tensor_float(allowed=True), autotuned():
            while done < plan.steps and not course.watch.stopped:
                done = _epoch(course, plan, done)
    except UsageError as error:
        raise _keep_last_good(error, course, plan) from error
    _finish(course)
    return images if done == plan.steps else done * batch_size


def _epoch(course: Course, plan: _Plan, first: int) -> int:
    """Train from step `first` to the end of its epoch; return the number of steps done then.

    Raises:
        UsageError: loss or weights stopped being finite.
    """
    began, loss = time.perf_counter(), torch.zeros(())
    model, descent, generator, examples = course.model, plan.descent, course.generator, plan.examples
    batches = _batches(len(examples), plan.batch_size, generator)
    step = first
    for step, index in zip(range(first, plan.steps), batches, strict=False):
        index = index.to(examples.labels.device)
        pixels = augment(examples.pixels(index), generator, crop=descent.crop, flip=descent.flip)
        model.train()
        with _precision(descent, pixels.device):
            loss = plan.objective(model, pixels, examples.labels[index], step / plan.steps)
        _descend(course, plan, loss, descent.rate(step, plan.steps))
        # Reading the loss waits for the device, so not at every step.
        if step % 25 == 0 or step == plan.steps - 1:
            note = f"loss {_finite(loss, step):.3f}"
            plan.report(Event(stage=plan.stage, done=step + 1, total=plan.steps, note=note))
    _finite(loss, step)
    network, per_epoch = course.average.network if course.average else model, len(examples) // plan.batch_size
    course.watch.close(network, epoch=math.ceil((step + 1) / per_epoch), done=step + 1, total=plan.steps)
    if course.meter:
        course.meter.seconds += time.perf_counter() - began
    if plan.checkpoints:
        checkpoint.save(course, step + 1, plan.checkpoints)
    return step + 1


def _descend(course: Course, plan: _Plan, loss: Tensor, rate: float) -> None:
    """Move the weights against the gradient of the loss."""
    course.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for weight, kept in plan.sparse:
        # A weight of 0 whose every gradient is 0 stays exactly 0: momentum, decay and AdamW only scale zeros.
        if weight.grad is not None:
            weight.grad.mul_(kept)
    nn.utils.clip_grad_norm_(course.model.parameters(), plan.descent.clip)
    move(course.optimizer, plan.grids, rate)
    if course.average:
        course.average.update(course.model)


def _finish(course: Course) -> None:
    """Give the model the weights that the training ends with, and no gradients."""
    chosen = course.watch.chosen()
    if chosen is not None:
        course.model.load_state_dict(chosen.state)
    elif course.average is not None:
        course.model.load_state_dict(course.average.network.state_dict())
    course.model.eval()


def _keep_last_good(error: UsageError, course: Course, plan: _Plan) -> UsageError:
    """Give the model the last good epoch's weights; return the error with a sentence about that epoch."""
    course.model.eval()
    good = course.watch.good
    if good is None:
        return error
    course.model.load_state_dict(good.state)
    where = f", and is kept in {plan.checkpoints}" if plan.checkpoints else ""
    return UsageError(f"{error} The network of epoch {good.epoch} is the last good one{where}.")


def _finite(loss: Tensor, step: int) -> float:
    """Return the loss as a number.

    Raises:
        UsageError: it is none.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise UsageError(f"The training loss is {value} at step {step}; try a smaller learning rate.")
    return value


def _precision(descent: Descent, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the objective is computed."""
    if descent.precision == "float32":
        return nullcontext()
    # Attack and training each use a cast weight once a pass, so remembering casts would save nothing.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def _sparse(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return each weight that has zeros, and where it has none; one of zeros only was never pruned, but begins so."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    found = [(weight, weight.detach() != 0) for weight in weights]
    return [(weight, kept) for weight, kept in found if kept.any() and not kept.all()]


def _batches(n: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return an epoch's index tensors, shuffled; a last, smaller batch is left out."""
    batches: tuple[Tensor, ...] = torch.randperm(n, generator=generator).split(batch_size)
    return batches[: n // batch_size]
