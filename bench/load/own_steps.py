"""A submission's own steps: its `steps.py` is run with consent only, and its steps are known only for a while."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UsageError
from bench.load.foreign import blaming
from bench.own_code import OwnCode
from bench.recipe import STEPS, Recipe


@contextmanager
def own_steps(recipe: Recipe) -> Iterator[None]:
    """Run the recipe's own file, if it has one, and register its steps as `NAME/step` while the block lasts.

    Whoever calls this has the user's consent. The file is a module of its own that nothing else can import, and cannot
    import files beside it: the digest in the entry is to stand for all of the code.

    Raises:
        UsageError: the file changed since the recipe was read, raises, or does not register steps.
    """
    if recipe.own_code is None:
        yield
        return
    path = Path(recipe.own_code.file)
    name = f"bench_submission_{path.parent.name}"
    try:
        steps = _steps(_run(path, recipe.own_code, name), path)
        with STEPS.lent({f"{path.parent.name}/{step}": made for step, made in steps.items()}):
            yield
    finally:
        sys.modules.pop(name, None)


def _run(path: Path, code: OwnCode, name: str) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error
    if hashlib.sha256(source).hexdigest() != code.sha256:
        raise UsageError(f"{path} has changed since the recipe was read; start again.")
    module = ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pydantic look a class's module up by name.
    sys.modules[name] = module
    with blaming(path):
        exec(compile(source, str(path), "exec"), vars(module))
    return module


def _steps(module: ModuleType, path: Path) -> dict[str, Any]:
    found = getattr(module, "STEPS", None)
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise UsageError(f'Expected {path} to say STEPS = {{"NAME": CLASS}}, one for each of its steps.')
    for name, step in found.items():
        parameters = getattr(step, "__dataclass_params__", None)
        if not dataclasses.is_dataclass(step) or not callable(step) or not parameters or not parameters.frozen:
            raise UsageError(f"Expected step '{name}' in {path} to be a frozen dataclass, got {step!r}.")
        if "__call__" not in dir(step):
            raise UsageError(f"Expected step '{name}' in {path} to have __call__(self, subject, ingredients).")
    return found
