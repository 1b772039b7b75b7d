"""What the bench holds every step to that it did not write itself: asked after each such step, before the next."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import UsageError, described
from bench.load.foreign import blaming
from bench.model import Subject
from bench.recipe import Ingredients, Recipe, Step


def digest_of_weights(model: nn.Module) -> str:
    """Return a sha256 over the names and values of everything in a model's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        # Through bytes: numpy knows no bfloat16.
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + values.numpy().tobytes())
    return digest.hexdigest()


def take_foreign(step: Step, name: str, recipe: Recipe, subject: Subject, ingredients: Ingredients) -> Subject:
    """Take a step of a submission or of a plugin.

    Guarantees:
        What comes back takes the same images and knows the same classes, is in evaluation mode, gives finite logits,
        and stands beside the untouched parent; the training images are what they were.

    Raises:
        UsageError: it is not so, or the step raised something; the sentence does not name the step.
    """
    parent, train = subject.parent, ingredients.train
    before, version = digest_of_weights(parent), train.images._version
    with blaming(Path(recipe.own_code.file) if recipe.own_code and recipe.is_own(name) else None):
        found = step(subject, ingredients)
    if not isinstance(found, Subject) or not isinstance(found.twin, nn.Module):
        raise UsageError(
            f"expected it to return a Subject with an nn.Module as its twin, got a {type(found).__name__}."
        )
    if found.parent is not parent or digest_of_weights(parent) != before:
        raise UsageError("it changed the parent; work on a copy: copy.deepcopy(subject.twin).")
    if any(module.training for module in (*found.twin.modules(), *parent.modules())):
        raise UsageError("it left a network in training mode; call .eval() on what it returns.")
    if train.images._version != version:
        raise UsageError("it changed the training images; work on a copy.")
    if ingredients.meter.images > ingredients.finetune_images:
        raise UsageError(
            f"it used {ingredients.meter.images:,} training images, and {ingredients.finetune_images:,} are allowed."
        )
    _check_logits(found, train.pixels(slice(2)).to(ingredients.device), recipe)
    return found


def _check_logits(found: Subject, images: Tensor, recipe: Recipe) -> None:
    shape = "×".join(str(size) for size in images.shape[1:])
    with torch.no_grad():
        expected = found.parent(images).shape
        try:
            logits = found.twin(images)
        except Exception as error:  # a foreign network may raise anything
            raise UsageError(f"its network does not take {shape} images any more ({described(error)}).") from error
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"expected logits of {expected[1]} classes for each of 2 images, got {got}.")
    if logits.dtype != torch.float32:
        raise UsageError(f"expected logits in float32, got {logits.dtype}; cast them, or train in float32.")
    if not logits.isfinite().all():
        raise UsageError("its network gives logits that are not finite.")
