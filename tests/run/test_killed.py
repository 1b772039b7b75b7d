"""Killed with SIGKILL again and again, an attack ends with the letters of an undisturbed one."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from bench.attack import driver
from bench.attack.driver import BenchEngine
from bench.attack.field import Room
from bench.attack.engine import run_suite
from bench.attack.suites import Budget
from bench.progress import silent
from bench.run.journal import FileJournal
from pathlib import Path
from test_driver import examples, trial
driver.SAVE_EVERY_S = 0.0
engine = BenchEngine(room=Room.of(4), budget=Budget(iterations=20, targets=3, queries=400))
journal = FileJournal(Path(sys.argv[1]))
found = run_suite(trial(engine, examples=examples(40)), "standard", journal=journal, report=silent)
print(found)
"""


def start(journal: Path) -> subprocess.Popen:
    path = f"import sys; sys.path[:0] = [{str(TESTS / 'attack')!r}]\n"
    return subprocess.Popen([sys.executable, "-c", path + SCRIPT, str(journal)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_twenty_kills_change_no_letter(tmp_path):
    begun = time.monotonic()
    expected = start(tmp_path / "whole.json").communicate()[0]
    took = time.monotonic() - begun
    moments = random.Random(0)
    for _ in range(20):
        process = start(tmp_path / "killed.json")
        try:
            process.communicate(timeout=moments.uniform(0.5, 1.0) * took)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    found = start(tmp_path / "killed.json").communicate()[0]
    assert expected.startswith("Outcome(")
    assert found == expected
