"""The training images that a track allows fine-tuning, shared by a recipe's steps."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import UsageError
from bench.finetune.descent import Descent
from bench.finetune.loop import n_held_out
from bench.recipe import Recipe, Step


def share(step: Step, later: Sequence[Step], *, used: int, budget: int, n: int) -> int:
    """Return how many training images may have been used after a step.

    Fine-tuning steps that name no epochs share, evenly, what those that do leave of the budget. The step itself refuses
    more than that, so that a recipe that asks for too much is refused before its first fine-tuning.

    Args:
        step: the next one.
        later: those behind it.
        used: by the steps before it.
        budget: of the track.
        n: training images in an epoch.
    """
    if not isinstance(step, Descent):
        return budget
    tunings = [one for one in later if isinstance(one, Descent)]
    left = budget - round(sum(one.epochs * n for one in tunings if one.epochs is not None))
    if step.epochs is None:
        left = used + (left - used) // (1 + sum(one.epochs is None for one in tunings))
    return left


def check_budget(recipe: Recipe, n: int, budget: int) -> None:
    """Refuse a recipe that asks for more training images than there are for it; its own steps are not asked.

    Args:
        recipe: to be applied.
        n: training images of the data set.
        budget: of the track.

    Raises:
        UsageError: with the step's name.
    """
    if recipe.own_code is not None:
        return
    used, steps = 0, recipe.resolve()
    for position, (table, step) in enumerate(zip(recipe.steps, steps, strict=True)):
        if isinstance(step, Descent):
            left = share(step, steps[position + 1 :], used=used, budget=budget, n=n) - used
            try:
                used += step.images(n - n_held_out(n, step.holdout), left)
            except UsageError as error:
                raise UsageError(f"Recipe {recipe.name}, step {table['step']}: {error}") from error
