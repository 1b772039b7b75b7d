"""The bench's own attack engine: AutoAttack's attacks and their kin over slots, refilled as soon as an image falls.

The reference runs a batch to its end although most of its images may have fallen at the first step. Here a slot whose
image fell, or whose search is over, takes the next image of the test set at once: batches stay full, and no pass is
spent on an image whose verdict is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.attack.apgd import Apgd, Loss
from bench.attack.capacity import Capacity
from bench.attack.fab import Fab
from bench.attack.field import Field, Means, Precision, Room, Work
from bench.attack.probe import Record
from bench.attack.search import Search
from bench.attack.square import Square
from bench.attack.suites import STANDARD, Budget, passes
from bench.flop_counter import macs_during
from bench.machine.allocator import keep_freed_memory
from bench.progress import Event, Report

if TYPE_CHECKING:
    from bench.attack.engine import Trial

NAME = "bench 2"
"""Changes whenever a verdict may."""
APGD_LOSSES: dict[str, Loss] = {
    "apgd-ce": "ce", "apgd-t": "targeted", "transfer": "ce", "surrogate": "ce", "apgd-scaled": "scaled",
}  # fmt: skip
SAVE_EVERY_S, REPORT_EVERY_S = 2.0, 0.2
MACS_IN_A_PASS, FEWEST, MOST, MOST_POINTS = 2**30, 16, 256, 1024
"""Multiply-accumulates of a forward pass on a CPU, its points at least, images, and points at most; a pass of more was
no faster per image."""
VALUES_ON_DEVICE, FEWEST_ON_DEVICE, MOST_ON_DEVICE = 2**22, 64, 1024
"""Image values in a batch, and slots, on an accelerator."""


@dataclass(frozen=True, kw_only=True)
class BenchEngine:
    """Runs one attack on many images.

    Guarantees:
        An image's verdict and its counts depend on the image, the model and the seed: not on the number of slots, the
        order of the images, or an interruption; up to the rounding with which a model answers batches of another size.

    Attributes:
        room: how much is attacked abreast, at least one image with all of its lanes; None takes what suits the device.
            What goes through a network together is for `capacity` to say.
        budget: of each attack.
        work: where what was really computed is counted, in vain or not.
        capacity: how many images go through a network in one pass; halved where memory runs out.
        precision: in which the search asks networks. The judge asks in full precision, so that nothing falls that
            would not fall in it; but a coarser search may miss what the protocol's finds.
    """

    room: Room | None = None
    budget: Budget = STANDARD
    work: Work = field(default_factory=Work)
    capacity: Capacity = field(default_factory=Capacity)
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """What an entry remembers of the engine."""
        return NAME if self.precision == "float32" else f"{NAME} {self.precision}"

    def __call__(
        self, trial: Trial, attack: str, images: list[int], report: Report
    ) -> Iterator[tuple[dict[int, bool], Record]]:
        """Yield, every now and then, image → survived and what was seen of these images."""
        keep_freed_memory()
        search = new_search(attack, trial, self.budget)
        room = self.room or suitable_room(trial)
        means = Means(work=self.work, capacity=self.capacity, precision=self.precision)
        slots = Field(trial, attack, search, room=room, means=means)
        waiting, tally = images[::-1], _Tally(total=len(images), each=passes(attack, trial.n_classes).total)
        outcomes, record = dict[int, bool](), Record()
        saved = reported = time.monotonic()
        while True:
            slots.admit(waiting)
            if not len(slots):
                break
            for through in slots.tick():
                outcomes[through.number] = through.survived
                record += through.seen
                tally.count(through.survived)
            now = time.monotonic()
            if now - reported > REPORT_EVERY_S:
                report(tally.event(attack, slots.passes_under_way()))
                reported = now
            if outcomes and now - saved > SAVE_EVERY_S:
                yield outcomes, record
                outcomes, record, saved = {}, Record(), time.monotonic()
        if outcomes:
            yield outcomes, record


@dataclass(kw_only=True)
class _Tally:
    """How far an attack is, for those who watch."""

    total: int
    each: int
    finished: int = 0
    fallen: int = 0

    def count(self, survived: bool) -> None:
        self.finished, self.fallen = self.finished + 1, self.fallen + (not survived)

    def event(self, attack: str, under_way: int) -> Event:
        done = min(self.finished * self.each + under_way, self.total * self.each)
        return Event(stage=attack, done=done, total=self.total * self.each, fallen=self.fallen)


def suitable_room(trial: Trial) -> Room:
    """Return how many images to attack abreast: a rule, so that two runs of a command agree to the last bit.

    On a CPU so many that a pass does enough work to hide what each operation costs to start; more would only be more to
    do again after an interruption. Where these are few for a pass, Square asks ahead, and APGD-T and FAB-T have lanes.
    On an accelerator many, and fewer in a pass where memory runs out.
    """
    image, _ = trial.batch([0])
    if trial.device.type != "cpu":
        most = max(FEWEST_ON_DEVICE, min(VALUES_ON_DEVICE // image.numel() // 16 * 16, MOST_ON_DEVICE))
        return Room.of(most)
    macs, _ = macs_during(lambda: trial.subject.twin(image))
    fitting = max(FEWEST, MACS_IN_A_PASS // max(macs, 1) // 16 * 16)
    points = min(fitting, MOST_POINTS)
    # Twice as many lanes still gain a twentieth; of twice as many queries ahead more are in vain.
    return Room(images=min(fitting, MOST), points=points, lanes=2 * points)


def new_search(attack: str, trial: Trial, budget: Budget) -> Search:
    """Return an attack whose slots are empty.

    Raises:
        KeyError: no such attack.
    """
    _, channels, height, width = trial.examples.images.shape
    threat, n_classes = trial.threat, trial.n_classes
    if attack.startswith("square"):
        if attack == "square-deployed":
            budget = replace(budget, queries=min(budget.queries, budget.deployed_queries))
        return Square(threat=threat, budget=budget, image_shape=(channels, height, width))
    if attack == "fab-t":
        return Fab(threat=threat, budget=budget, n_classes=n_classes)
    loss = APGD_LOSSES[attack]
    return Apgd(loss=loss, threat=threat, budget=budget, n_classes=n_classes)
