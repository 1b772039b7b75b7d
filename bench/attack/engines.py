"""The attack engines by name: one protocol, the same verdicts."""

from __future__ import annotations

from collections.abc import Callable

from bench.attack.driver import BenchEngine
from bench.attack.engine import Engine
from bench.attack.reference import SHARD, ReferenceEngine
from bench.errors import UsageError
from bench.registry import did_you_mean

ENGINES: dict[str, Callable[[int | None], Engine]] = {
    "bench": lambda batch_size: BenchEngine(slots=batch_size),
    "reference": lambda batch_size: _reference(batch_size),
}


def new_engine(name: str, *, batch_size: int | None = None) -> Engine:
    """Return the engine of that name.

    Args:
        name: one of `ENGINES`.
        batch_size: images attacked abreast; None lets the engine choose.

    Raises:
        UsageError: there is none, or its protocol fixes the batch size.
    """
    if name not in ENGINES:
        raise UsageError(f"There is no attack engine '{name}'.{did_you_mean(name, ENGINES)}")
    return ENGINES[name](batch_size)


def _reference(batch_size: int | None) -> ReferenceEngine:
    if batch_size is not None:
        raise UsageError(
            f"Expected --batch-size auto with --engine reference, got {batch_size}: "
            f"it draws random numbers for a whole batch, so that its batches of {SHARD} are part of the protocol."
        )
    return ReferenceEngine()
