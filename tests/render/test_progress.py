import io
import json
import time

import pytest
from rich.console import Console

from bench.progress import Event
from bench.render.progress import watching


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool, width: int = 80) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=terminal, _environ={"TERM": "xterm-256color"}), file


def test_a_pipe_gets_plain_lines_now_and_then() -> None:
    where, file = console(terminal=False)
    clock = Clock()
    with watching(where, clock=clock) as report:
        report(Event(stage="load", note="bench:digits-cnn"))
        for done in range(1001):
            clock.now = done / 10
            report(Event(stage="fine-tune", done=done, total=1000, note=f"loss {1 / (done + 1):.2f}"))
        report(Event(stage="apgd-ce", done=1, total=100, note="standing 400"))
        report(Event(stage="apgd-ce", note="standing 231/400"))
    lines = file.getvalue().splitlines()
    assert lines[:3] == [
        "load: started, bench:digits-cnn",
        "load: done after 0.0 s, bench:digits-cnn",
        "fine-tune: started",
    ]
    assert lines[3] == "fine-tune: 10 %, loss 0.01, 10 s, 1 min 30 s left"
    assert len([line for line in lines if line.startswith("fine-tune")]) == 12
    assert lines[-1] == "apgd-ce: done after 0.0 s, standing 231/400"
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()


def test_a_stage_that_crawls_is_heard_of_once_a_minute() -> None:
    where, file = console(terminal=False)
    clock = Clock()
    with watching(where, clock=clock) as report:
        for second in range(200):
            clock.now = float(second)
            report(Event(stage="square", done=second, total=1_000_000))
    told = [line.rpartition(", ")[0] for line in file.getvalue().splitlines() if "%" in line]
    assert told == ["square: 0 %, 1 min 00 s", "square: 0 %, 2 min 00 s", "square: 0 %, 3 min 00 s"]


def test_a_terminal_gets_one_line_per_stage() -> None:
    where, file = console(terminal=True)
    with watching(where) as report:
        for stage in ("calibrate", "fine-tune", "apgd-ce"):
            for done in range(50):
                report(Event(stage=stage, done=done + 1, total=50, note=f"standing {done}"))
    last = file.getvalue().rsplit("\x1b[2K", 1)[-1]
    assert last.count("✓") == 3
    assert last.count("\n") <= 4
    assert "standing 49" in last, "what was throttled away is shown when the stage ends"


@pytest.mark.parametrize("width", [56, 80])
def test_a_long_note_costs_neither_name_nor_time(width: int) -> None:
    where, file = console(terminal=True, width=width)
    with watching(where) as report:
        report(Event(stage="finetune-adversarial", done=1, total=3, note="a rather long note " * 9))
    last = file.getvalue().rsplit("\x1b[2K", 1)[-1]
    assert "finetune-adversarial" in last
    assert " s" in last
    assert "…" in last


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("terminal", [False, True])
def test_an_exception_gives_the_terminal_back(error: type[BaseException], terminal: bool) -> None:
    where, file = console(terminal=terminal)

    def stopped_midway() -> None:
        with watching(where) as report:
            report(Event(stage="fab-t", done=3, total=10))
            raise error

    with pytest.raises(error):
        stopped_midway()
    text = file.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == int(terminal)
    assert ("✗" in text) if terminal else text.endswith("fab-t: stopped after 0.0 s\n")


def test_thousands_of_events_cost_next_to_nothing() -> None:
    where, _ = console(terminal=True)
    began = time.perf_counter()
    with watching(where) as report:
        for done in range(20_000):
            report(Event(stage="apgd-t", done=done, total=20_000))
    assert time.perf_counter() - began < 5.0


def test_nothing_reported_shows_nothing() -> None:
    for terminal in (False, True):
        where, file = console(terminal=terminal)
        with watching(where):
            pass
        assert file.getvalue() == ""


def test_a_parent_process_gets_events_a_few_a_second(monkeypatch) -> None:
    monkeypatch.setenv("BENCH_EVENTS", "json")
    where, file = console(terminal=True)
    clock = Clock()
    with watching(where, clock=clock) as report:
        report(Event(stage="load", note="bench:digits-cnn"))
        for done in range(101):
            clock.now = done / 100
            report(Event(stage="square", done=done, total=100))
        report(Event(stage="square", note="standing 3/12"))
    events = [Event(**json.loads(line)) for line in file.getvalue().splitlines()]
    assert events[0] == Event(stage="load", note="bench:digits-cnn")
    assert events[-1] == Event(stage="square", note="standing 3/12")
    assert 8 < len(events) < 16
