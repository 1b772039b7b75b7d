"""New submissions and recipes from templates: what is written passes `bench check` at once."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from bench.errors import UsageError
from bench.files import write_text
from bench.recipe import submission_names
from bench.recipe_words import spell

_NAME = r"[a-z0-9]+([.-][a-z0-9]+)*"


def check_name(name: str) -> None:
    """Refuse a name that cannot be a submission's: it becomes a folder, a file's name and a word on a board.

    Raises:
        UsageError: of another form, or it spells a recipe of the bench.
    """
    if not re.fullmatch(_NAME, name) or len(name) > 60:
        raise UsageError(f"Expected a name of small letters, digits and single hyphens (my-recipe), got '{name}'.")
    if spell(name) is not None:
        raise UsageError(f"'{name}' spells a recipe that the bench has already; choose another name.")


def new_submission(name: str, *, own_step: bool, submissions: Path = Path("submissions")) -> Path:
    """Write a submission's folder; return it.

    Raises:
        UsageError: a bad name, or the folder exists.
    """
    check_name(name)
    folder = submissions / name
    if folder.exists():
        raise UsageError(f"There is something at {folder} already; choose another name, or edit that.")
    files = {
        "card.toml": _filled("card.toml", name),
        "recipe.toml": _filled("recipe.toml", name) + _step(name, own_step=own_step),
        "README.md": _filled("README.md", name),
    }
    if own_step:
        files["steps.py"] = _filled("steps.py.txt", name)
    for file, text in files.items():
        write_text(folder / file, text)
    return folder


def new_recipe(name: str) -> Path:
    """Write a recipe's file in the current folder; return it.

    Raises:
        UsageError: a bad name, or one that is taken.
    """
    name = name.removesuffix(".toml")
    check_name(name)
    path = Path(f"{name}.toml")
    if path.exists() or name in submission_names():
        raise UsageError(f"There is a recipe called {name} already; choose another name.")
    write_text(path, _filled("recipe.toml", name) + _step(name, own_step=False))
    return path


def _step(name: str, *, own_step: bool) -> str:
    return _filled("own_step.toml" if own_step else "builtin_step.toml", name)


def _filled(template: str, name: str) -> str:
    text = (resources.files("bench") / "submit" / "templates" / template).read_text(encoding="utf-8")
    return Template(text).substitute(name=name)
