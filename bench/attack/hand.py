"""One of the processes that attack side by side: it takes a share of the images, and tells what became of each.

It is started by `bench.attack.crew`, and is told everything through one connection: first the trial, then attack after
attack. It ends when nobody is left at the other end.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.attack.driver import BenchEngine
from bench.attack.field import Room, Work
from bench.attack.suites import passes
from bench.progress import Event

if TYPE_CHECKING:
    from bench.attack.engine import Trial
    from bench.attack.probe import Record


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a hand is to do.

    Attributes:
        attack: its key.
        images: the numbers of its images.
        threads: that it may have inside a pass.
        room: how much it attacks abreast.
        keep: whether the images that fooled are wanted.
    """

    attack: str
    images: list[int]
    threads: int
    room: Room
    keep: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a hand has done since it last told.

    Attributes:
        outcomes: image → survived.
        record: what was seen while these images were attacked.
        work: what was computed.
        kept: images that fooled, and their numbers: ((n,) int64, (n, C, H, W)) each.
    """

    outcomes: dict[int, bool]
    record: Record
    work: Work
    kept: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Ready:
    """A hand has nothing to do: it has just begun, or its share is done."""


@dataclass(kw_only=True)
class _Pocket:
    """The album of a hand: it holds images until they are sent with the next part."""

    held: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def take(self, numbers: Tensor, images: Tensor) -> None:
        self.held.append((numbers.cpu(), images.detach().cpu()))

    def save(self, attack: str) -> None:
        """Leave that to the process that keeps the journal."""

    def holds(self, attack: str) -> set[int]:
        return set()


def main() -> None:
    """Attack what comes through the connection whose number is the only argument."""
    wire = Connection(int(sys.argv[1]))
    os.dup2(2, 1)  # whatever a network prints is nobody's answer
    try:
        trial = pickle.loads(wire.recv_bytes())  # from the process that started this one
        send(wire, Ready())
        while True:
            for part in _attack(trial, pickle.loads(wire.recv_bytes()), wire):
                send(wire, part)
            send(wire, Ready())
    except (EOFError, OSError):  # nobody is there any more
        pass


def send(wire: Connection, message: object) -> None:
    """Send an object, its tensors included, as plain bytes."""
    wire.send_bytes(pickle.dumps(message))


def _attack(trial: Trial, share: Share, wire: Connection) -> Iterator[Part]:
    engine, work, pocket, fallen = trial.engine, Work(), _Pocket(), 0
    assert isinstance(engine, BenchEngine)
    torch.set_num_threads(share.threads)
    trial = replace(trial, album=pocket if share.keep else None)

    def report(event: Event) -> None:
        send(wire, event)

    for outcomes, record in replace(engine, work=work, room=share.room)(trial, share.attack, share.images, report):
        yield Part(outcomes=outcomes, record=record, work=replace(work), kept=pocket.held)
        pocket.held, work.forward, work.backward, work.seconds = [], 0, 0, 0.0
        fallen += list(outcomes.values()).count(False)
    total = len(share.images) * passes(share.attack, trial.n_classes).total
    report(Event(stage=share.attack, done=total, total=total, fallen=fallen))
