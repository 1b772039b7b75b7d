"""The attack engines by name: one protocol, the same verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bench.attack.capacity import Capacity
from bench.attack.driver import BenchEngine
from bench.attack.engine import Engine
from bench.attack.field import Room
from bench.attack.reference import SHARD, ReferenceEngine
from bench.errors import UsageError
from bench.registry import did_you_mean

ENGINES: dict[str, Callable[[], Engine]] = {
    "bench": BenchEngine,
    "bench-tf32": lambda: BenchEngine(precision="tf32"),
    "bench-bf16": lambda: BenchEngine(precision="bf16"),
    "reference": ReferenceEngine,
}


def new_engine(name: str, *, batch_size: int | None = None, device: torch.device | None = None) -> Engine:
    """Return the engine of that name.

    Args:
        name: one of `ENGINES`.
        batch_size: images in a pass; None lets the engine choose.
        device: where it will attack, if that is known.

    Raises:
        UsageError: there is none, its protocol fixes the batch size, or it is of no use on the device.
    """
    if name not in ENGINES:
        raise UsageError(f"There is no attack engine '{name}'.{did_you_mean(name, ENGINES)}")
    engine = ENGINES[name]()
    if isinstance(engine, BenchEngine) and engine.precision == "tf32" and device is not None and device.type != "cuda":
        raise UsageError(f"Expected a CUDA device with --engine {name}, got {device}: only CUDA knows TensorFloat-32.")
    if batch_size is None:
        return engine
    if not isinstance(engine, BenchEngine):
        raise UsageError(
            f"Expected --batch-size auto with --engine {name}, got {batch_size}: it draws random numbers for a whole "
            f"batch, so that its batches of {SHARD} are part of the protocol."
        )
    return replace(engine, room=Room.of(batch_size), capacity=Capacity(most=batch_size))
