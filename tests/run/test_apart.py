"""A submission's own steps in a process of their own: what comes back, and how it ends."""

import json
import os
import subprocess
import sys

import pytest
import torch
from submissions_made_up import write_submission

from bench.errors import UsageError
from bench.load.datasets import load_digits
from bench.model import ModelSpec
from bench.parent import load_parent
from bench.prepare import prepare
from bench.progress import silent
from bench.recipe import load_recipe
from bench.request import Request
from bench.run import apart
from bench.run.apart import prepare_apart
from bench.stages import recipe_record
from bench.track import load_track

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""

# What the step sees of the process: no tensor of the 400 test images, and nothing that attacks.
LOOK = """
import gc, sys
held = [len(x) for x in gc.get_objects() if type(x) is torch.Tensor and x.dtype == torch.uint8 and x.dim() == 4]
assert 400 not in held and 1397 in held, held
assert os.getpid() != {pid}, 'the same process'
print('something for people')
twin[1].weight.data *= 2
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Make the question: a submission whose step does `body`, on a network of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NET)

    def asked(body: str) -> Request:
        write_submission(tmp_path / "submissions", body)
        model = ModelSpec.parse(f"python:{tmp_path / 'net.py'}:make")
        return Request(
            recipe=load_recipe("ours"), track=load_track("digits-linf-v1"), model=model, device="cpu", trust=True
        )

    return asked


def test_what_is_judged_was_sealed_by_a_process_without_test_images(ask, monkeypatch):
    request, dataset, cpu = ask(LOOK.format(pid=os.getpid()).strip()), load_digits(), torch.device("cpu")
    parent = load_parent(request, dataset, cpu, silent)
    events = []
    made = prepare(request, parent, dataset, cpu, events.append)
    assert made.isolated
    assert made.digest
    weight, bias = parent[1].weight, parent[1].bias
    assert torch.allclose(made.subject.twin(torch.ones(1, 1, 8, 8)), 2 * weight.sum(1) + bias, atol=1e-5)
    assert not [name for name in sys.modules if "submission_ours" in name]
    assert "ours/mine" in {event.stage for event in events}
    record = recipe_record(request.recipe, made)
    assert (record.own_code.file, record.own_code.isolated) == ("ours/steps.py", True)
    assert record.steps == ({"step": "ours/mine", "size": 1},)
    assert recipe_record(load_recipe("none"), made).fingerprint != record.fingerprint

    monkeypatch.setattr("bench.prepare.prepare_apart", None)  # the second time nothing has to run
    assert prepare(request, parent, dataset, cpu, silent).digest == made.digest


UNSAVED = """
class Branching(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images) if images.mean().item() >= 0 else self.inner(images) * 2

twin = Branching(twin).eval()
"""


def test_a_network_that_cannot_be_saved_is_attacked_here_and_the_entry_says_so(ask, monkeypatch):
    request, dataset, cpu = ask(UNSAVED.strip()), load_digits(), torch.device("cpu")
    monkeypatch.setattr("bench.prepare.prepare_apart", lambda request, report: "it branches")
    events = []
    made = prepare(request, load_parent(request, dataset, cpu, silent), dataset, cpu, events.append)
    assert (made.digest, made.isolated) == (None, False)
    assert made.unsealed
    assert recipe_record(request.recipe, made).own_code.isolated is False
    assert "its own steps are taken in this process, too: it branches" in [event.note for event in events]


def test_how_a_process_dies_is_one_sentence(ask):
    with pytest.raises(UsageError, match=r"The process that ran .*ours/steps.py ended with exit code 3: last words"):
        prepare_apart(ask("print('last words', flush=True)\nos._exit(3)"), silent)


# The other process, played by a few lines: quick, and it does what is hard to bring about.


@pytest.fixture
def other(ask, monkeypatch):
    """Ask a process that runs `code` instead of the bench's."""

    def asked(code: str):
        monkeypatch.setattr(apart, "_COMMAND", [sys.executable, "-c", code])
        return prepare_apart(ask("pass"), silent)

    return asked


def test_its_mistakes_keep_their_sentence_and_exit_code(other):
    with pytest.raises(UsageError, match=r"^Recipe ours, step ours/mine: no\.$"):
        other(f"print({json.dumps(json.dumps({'error': 'Recipe ours, step ours/mine: no.'}))}); raise SystemExit(2)")


def test_a_network_that_cannot_be_saved_says_why(other):
    assert other('print(\'{"sealed": "no graph"}\')') == "no graph"


def test_a_signal_is_named(other):
    with pytest.raises(UsageError, match="ended with SIGKILL: it said nothing"):
        other("import os; os.kill(os.getpid(), 9)")


def test_ctrl_c_reaches_it(other, monkeypatch):
    ended = []
    original = subprocess.Popen.send_signal

    def send(self, sign):
        ended.append(sign)
        original(self, sign)

    def interrupt(event):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "send_signal", send)
    monkeypatch.setitem(globals(), "silent", interrupt)
    event = json.dumps({"event": {"stage": "ours/mine"}})
    with pytest.raises(KeyboardInterrupt):
        other(f"import time; print({json.dumps(event)}, flush=True); time.sleep(60)")
    assert [sign.name for sign in ended] == ["SIGINT"]
