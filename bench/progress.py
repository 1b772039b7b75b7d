"""How long work tells whoever watches: one small event, many kinds of audience."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something worth showing while a stage of the line is under way.

    Attributes:
        stage: the stage of the line, "fine-tune", "attack apgd-ce".
        done: units finished so far.
        total: units in all; 0 when the stage is a single announcement.
        note: one short fact for people ("standing 212/400").
        fallen: images that this attack has brought down so far, for whoever counts those that stand.
    """

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""
    fallen: int = 0


EVENTS = "BENCH_EVENTS"
"""Environment variable: "json" has events written as lines of JSON, for a process that runs this one."""

Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Show nothing."""
