"""Several processes attack side by side, each with its share of the images.

On a CPU a second thread inside a pass gains little where networks are small: the search between the passes waits, and
each operation is too short to share. Images know nothing of each other, so that processes lose nothing.
"""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.attack.capacity import Capacity
from bench.attack.driver import BenchEngine, suitable_room
from bench.attack.field import Room
from bench.attack.hand import Part, Ready, Share, send
from bench.attack.probe import Record
from bench.attack.suites import passes
from bench.machine.interpreter import INTERPRETER, same_modules
from bench.progress import Event, Report

if TYPE_CHECKING:
    from bench.attack.engine import Engine, Trial

GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
WORTH_S = 20.0
"""An attack that takes fewer seconds is over before other processes have begun."""
MOST_HANDS, BYTES_A_HAND = 16, 2**30
"""Processes at most, and what each needs besides images and networks: most of it is PyTorch itself."""
FEWEST_IMAGES = 3
"""Images for each process below which there are fewer; so few still gained from a process rather than from a thread."""


def hands_for(trial: Trial) -> int:
    """Return how many processes may attack: as many as PyTorch has threads, if the container lets it have as many."""
    if trial.device.type != "cpu" or not isinstance(trial.engine, BenchEngine):
        return 1
    return min(torch.get_num_threads(), MOST_HANDS, granted_cores())


def granted_cores(group: Path = GROUP) -> int:
    """Return the cores whose time a container may use, at least one; many where nothing limits it."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # "max" is no number
        return MOST_HANDS


def free_memory(group: Path = GROUP) -> int:
    """Return the bytes that this process may still ask for, of the machine and of the container it runs in."""
    free = [2**63]
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):  # "max" is no number
        most, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        free.append(int(most) - int(used))
    return min(free)


@contextmanager
def crew(trial: Trial, hands: int, pace: float) -> Iterator[Engine]:
    """Return an engine that has so many processes attack as the trial's own would; they end with the block.

    They begin with the first attack that is long enough. The trial's own engine comes back where one process will do.

    Args:
        trial: who is attacked; its album stays here.
        hands: processes.
        pace: seconds that an image takes for one pass, forward or backward.
    """
    if hands < 2 or not isinstance(trial.engine, BenchEngine):
        yield trial.engine
        return
    with ExitStack() as stack:
        yield Crew(engine=trial.engine, wanted=hands, pace=pace, contracts=stack)


@contextmanager
def _hired() -> Iterator[Connection]:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        [*INTERPRETER, "-c", "from bench.attack.hand import main; main()", str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what went wrong goes wrong here again, where it can be told
        env=same_modules() | {"OMP_NUM_THREADS": "1"},
        pass_fds=[theirs.fileno()],
        process_group=0,  # Ctrl-C ends this process, and that one with it
    )
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        process.wait()


@dataclass(kw_only=True)
class Crew:
    """An engine of several processes.

    Guarantees:
        The verdicts and counts of the engine itself, up to the rounding with which a network answers batches of another
        size. What a process that died leaves undone is done here, and where that fails the failure is heard.

    Attributes:
        engine: what each process runs.
        wanted: how many processes; where images are too few for so many, each has several threads.
        pace: seconds that an image takes for one pass.
        contracts: ends them.
        begun: whether an attack was long enough to start them.
        room: how much each attacks abreast; known once they are there.
        hands: the connections to them; those that died are taken out.
    """

    engine: BenchEngine
    wanted: int
    pace: float
    contracts: ExitStack
    begun: bool = False
    room: Room | None = None
    hands: list[Connection] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What an entry remembers: the engine."""
        return self.engine.name

    def __call__(
        self, trial: Trial, attack: str, images: list[int], report: Report
    ) -> Iterator[tuple[dict[int, bool], Record]]:
        """Yield, as any process has something to tell, image → survived and what was seen of these images."""
        total = len(images) * passes(attack, trial.n_classes).total
        if not self.begun and total * self.pace > WORTH_S:
            self._hire(trial)
        n = min(len(self.hands), len(images) // FEWEST_IMAGES)
        if n < 2:
            yield from self.engine(trial, attack, images, report)
            return
        assert self.room is not None
        shares = {hand: images[start::n] for start, hand in enumerate(self.hands[:n])}
        open_images, progress = set(images), dict[Connection, Event]()
        for hand, share in shares.items():
            threads = self.wanted // n
            keep = trial.album is not None
            self._tell(hand, Share(attack=attack, images=share, threads=threads, room=self.room, keep=keep))
        busy = [hand for hand in shares if hand in self.hands]
        while busy:
            speaking = wait(busy)
            for hand in [hand for hand in busy if hand in speaking]:
                match self._hear(hand):
                    case Part() as part:
                        self._count(part)
                        for numbers, kept in part.kept:
                            if trial.album is not None:
                                trial.album.take(numbers, kept)
                        open_images -= part.outcomes.keys()
                        yield part.outcomes, part.record
                    case Event() as event:
                        progress[hand] = event
                        report(_together(progress.values(), total))
                    case _:  # ready, or gone
                        busy.remove(hand)
        if lost := [image for image in images if image in open_images]:
            yield from self.engine(trial, attack, lost, report)

    def _hire(self, trial: Trial) -> None:
        """Start the processes, once: as many as there is memory for, none where the networks cannot travel."""
        self.begun = True
        engine = self.engine
        if (most := engine.capacity.most) is not None:
            engine = replace(engine, capacity=Capacity(most=max(1, most // self.wanted)))
        try:
            orders = pickle.dumps(replace(trial, album=None, engine=engine))
            n = min(self.wanted, free_memory() // (BYTES_A_HAND + len(orders)))
            started = [self.contracts.enter_context(_hired()) for _ in range(n)]
        except Exception:  # a network may refuse to be pickled in any way
            return
        if started:  # while they import what they need: to count operations takes a second, which each would pay
            self.room = engine.room.shared(self.wanted) if engine.room else suitable_room(trial)
        for hand in started:  # all have begun: none waits until the one before is ready
            with suppress(OSError):
                hand.send_bytes(orders)
        self.hands = [hand for hand in started if isinstance(_heard(hand), Ready)]

    def _tell(self, hand: Connection, share: Share) -> None:
        try:
            send(hand, share)
        except OSError:
            self.hands.remove(hand)

    def _hear(self, hand: Connection) -> object:
        """Return what a process has to tell; one that died tells nothing, and is asked nothing again."""
        if (message := _heard(hand)) is None:
            self.hands.remove(hand)
        return message

    def _count(self, part: Part) -> None:
        work = self.engine.work
        work.forward, work.backward = work.forward + part.work.forward, work.backward + part.work.backward
        work.seconds += part.work.seconds


def _together(events: Collection[Event], total: int) -> Event:
    """Return what several processes have done of an attack of `total` passes."""
    stage, done = next(iter(events)).stage, sum(event.done for event in events)
    return Event(stage=stage, done=done, total=total, fallen=sum(event.fallen for event in events))


def _heard(hand: Connection) -> object:
    """Return what a process has to tell; None if it died."""
    try:
        return pickle.loads(hand.recv_bytes())
    except (EOFError, OSError):
        return None
