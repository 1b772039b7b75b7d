"""A command of the bench in a process of its own: its progress is heard here, and its crash stays there."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from bench.machine.interpreter import INTERPRETER, same_modules
from bench.progress import EVENTS, Event, Report

_GRACE_S = 20.0
"""How long a child may take to end once it was asked to; then it is killed, which costs it at most a shard."""
_KEPT_LINES = 200


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit code; −N where signal N killed it.
        complaints: the last lines of what it wrote to standard error, progress left out.
    """

    code: int
    complaints: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Say in one sentence why it failed."""
        if self.code < 0:
            name = signal_name(-self.code)
            memory = ", as happens when memory runs out" if name == "SIGKILL" else ""
            return f"The process was killed by {name}{memory}."
        said = [line for line in self.complaints if line.startswith("error: ")]
        if said:
            return said[-1].removeprefix("error: ")
        last = next((line.strip() for line in reversed(self.complaints) if line.strip()), "it said nothing")
        return f"The process ended with exit code {self.code}: {last.rstrip('.')}."


def signal_name(number: int) -> str:
    """Return "SIGKILL"; "signal 40" for one without a name."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def run_child(arguments: Sequence[str], report: Report) -> Ended:
    """Run `bench ARGUMENTS…` in a process of its own, and wait for it.

    Args:
        arguments: what follows `bench` on the command line.
        report: hears the child's events.

    Guarantees:
        Whatever interrupts this process while it waits (Ctrl-C, SIGTERM) ends the child first; it is passed on then.
        A child whose parent was killed ends with its next event, which nobody reads.
    """
    child = subprocess.Popen(
        [*INTERPRETER, "-m", "bench", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # what counts is on the board
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=same_modules() | {EVENTS: "json"},
        process_group=0,  # Ctrl-C reaches it once, from here, and not from the terminal as well
    )
    assert child.stderr is not None
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        with _termination_interrupts():
            for line in child.stderr:
                if (event := _event(line)) is not None:
                    report(event)
                elif line.strip():
                    kept.append(line.rstrip())
            child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        child.stderr.close()
    return Ended(code=child.returncode, complaints=tuple(kept))


def _event(line: str) -> Event | None:
    """Read an event; None for a line that is something else."""
    if not line.startswith("{"):
        return None
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does, so that a job that is stopped takes its child along."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs it there has handlers of their own
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(child: subprocess.Popen[str]) -> None:
    """Ask a child to end as Ctrl-C would; kill it when it takes too long, or at the next interruption."""
    try:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=_GRACE_S)  # reads on, so that no full pipe holds it up
    except (subprocess.TimeoutExpired, KeyboardInterrupt, ValueError):
        child.kill()
        child.wait()
