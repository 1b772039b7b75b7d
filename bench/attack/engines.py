"""The attack engines by name: one protocol, the same verdicts."""

from __future__ import annotations

from collections.abc import Callable

from bench.attack.driver import BenchEngine
from bench.attack.engine import Engine
from bench.attack.reference import ReferenceEngine
from bench.errors import UsageError
from bench.registry import did_you_mean

ENGINES: dict[str, Callable[[], Engine]] = {"bench": BenchEngine, "reference": ReferenceEngine}


def new_engine(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ENGINES:
        raise UsageError(f"There is no attack engine '{name}'.{did_you_mean(name, ENGINES)}")
    return ENGINES[name]()
