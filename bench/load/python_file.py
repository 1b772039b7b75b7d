"""Models from the user's own code, run only on request."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from bench.errors import MissingError, UsageError
from bench.load.foreign import blaming
from bench.registry import did_you_mean


def load_function(name: str, *, trust: bool) -> nn.Module:
    """Return what the function in `FILE.py:FUNCTION` returns, called without arguments.

    Raises:
        UsageError: no trust, no such function, the code raises, or the result is no nn.Module.
        MissingError: no such file.
    """
    file, _, function = name.rpartition(":")
    if not file or not function:
        raise UsageError(f"Expected python:FILE.py:FUNCTION (for example python:net.py:make), got 'python:{name}'.")
    if not trust:
        raise UsageError(f"python:{name} would run the code in {file}; add --trust to allow it.")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise MissingError(f"There is no Python file {path} for python:{name}; check the path.")
    with _siblings_importable(path.parent):
        module = _run(path)
        make = getattr(module, function, None)
        if not callable(make):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise UsageError(f"There is no function '{function}' in {path}.{did_you_mean(function, known)}")
        with blaming(path):
            network = make()
    if not isinstance(network, nn.Module):
        raise UsageError(f"Expected {function}() in {path} to return an nn.Module, got a {type(network).__name__}.")
    return network


def _run(path: Path) -> ModuleType:
    """Execute the file as a module of its own, under a name no other file has."""
    name = f"bench_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"Expected a Python file that ends in .py, got {path}.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look their module up by name.
    sys.modules[name] = module
    with blaming(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _siblings_importable(folder: Path) -> Iterator[None]:
    """Let the file import its neighbours, as it could if it were run as a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
