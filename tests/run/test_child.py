"""A command in a process of its own: heard while it runs, explained when it fails, ended when we are."""

import os
import signal
import threading
import time

import pytest

from bench.progress import Event
from bench.run.child import run_child


def test_events_are_heard_and_the_rest_is_kept(fake_bench):
    heard = []
    ended = run_child(["quant8"], heard.append)
    assert heard == [Event(stage="load", note="hello"), Event(stage="apgd-ce", done=3, total=4)]
    assert ended.code == 3
    assert ended.complaints[0] == "a warning of some library"
    assert ended.reason == "There is no data set 'digits'; set BENCH_DATA_DIR."


def test_a_killed_child_is_explained(fake_bench):
    ended = run_child(["quant4"], lambda event: None)
    assert ended.code == -signal.SIGKILL
    assert ended.reason == "The process was killed by SIGKILL, as happens when memory runs out."


def test_a_crash_is_one_sentence(fake_bench):
    ended = run_child(["quant2"], lambda event: None)
    assert ended.reason == "The process ended with exit code 1: RuntimeError: shapes differ."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_interrupts_us_ends_the_child(fake_bench, number):
    handlers = signal.getsignal(signal.SIGTERM)

    def interrupt():
        while not (fake_bench / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_child(["prune50"], lambda event: None)
    assert (fake_bench / "interrupted").exists()
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGTERM) == handlers
