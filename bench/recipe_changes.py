"""Settings of a recipe that were changed on the command line: what it is called then, and how to change them again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from bench.errors import UsageError
from bench.faults import is_line
from bench.recipe import Recipe, fingerprint
from bench.recipe_form import SETTING, assign, toml_value
from bench.recipe_words import spell


def override(recipe: Recipe, changes: list[str]) -> Recipe:
    """Return the recipe with settings changed, each given as `steps.0.weight_bits=4`, under a name of its own.

    Raises:
        UsageError: not an assignment, no such step, or a value that its setting cannot have.
    """
    if not changes:
        return recipe
    steps = [dict(table) for table in recipe.steps]
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not is_line(change):
            raise UsageError(f"Expected --set {SETTING}=VALUE (steps.0.weight_bits=4), got {change!r}.")
        assign(steps, path.strip(), toml_value(value.strip()), f"--set {change}: recipe {recipe.name}", written=change)
    complete = dataclasses.replace(recipe, steps=tuple(steps)).declared()
    if complete == recipe.declared():
        return recipe
    # A measurement of something else must not take the place of the recipe's own, nor carry its authors' claim.
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}+{fingerprint(complete)[:6]}",
        summary=f"{recipe.summary}, with {', '.join(changes)}",
        steps=tuple(steps),
        folder="",
        changes=tuple(changes),
    )


def own_name(name: str) -> str:
    """Return the name of the recipe whose settings were changed: "quant8-advft" for "quant8-advft+5981e0"."""
    return re.sub(r"[+][0-9a-f]{6}$", "", name)


def changed_settings(name: str, steps: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Return what was changed with --set: the path of each setting → (its value, the recipe's own).

    Args:
        name: as `override` makes it, "quant8-advft+5981e0"; no setting of another name was changed.
        steps: with every setting. Those of a submission all count as changed, from None: it may not be at hand.
    """
    recipe = own_name(name)
    spelt = spell(recipe)
    if recipe == name:
        return {}
    own = Recipe(name=recipe, summary="", steps=tuple(spelt[1])).declared() if spelt else [{} for _ in steps]
    return {
        f"steps.{i}.{key}": (value, before.get(key))
        for i, (step, before) in enumerate(zip(steps, own, strict=True))
        for key, value in step.items()
        if key != "step" and (key not in before or before[key] != value)
    }
