"""Whether a recipe's own code may run: asked once, before anything is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.recipe import Recipe


def may_run(recipe: Recipe, *, trust: bool) -> bool:
    """Whether the recipe's own steps may run: --trust says so, or the person at the terminal does.

    Where nobody can be asked the answer is no.
    """
    if recipe.own_code is None or trust:
        return trust
    if not sys.stdin.isatty():
        return False
    code = recipe.own_code
    return typer.confirm(
        f"Recipe {recipe.name} runs the code in {code.file} (sha256 {code.sha256[:12]}) as you. Run it?", err=True
    )
