"""Parents made from scratch: robust where they should be, resumable, and refused in a sentence where they cannot be."""

import json

import pytest
import torch

from bench import parent
from bench.cli import main
from bench.errors import UsageError
from bench.load.architectures import SCHEDULES
from bench.load.architectures.schedule import Schedule
from bench.model import ModelSpec
from bench.progress import silent
from bench.track import load_track
from bench.train import changed, train

CPU = torch.device("cpu")
DIGITS = load_track("digits-linf-v1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))


def make(name, *assignments, out=None):
    return train(ModelSpec.parse(name), DIGITS, list(assignments), out, CPU, silent)


def test_the_adversarial_parent_stands_more_than_the_standard_one(tmp_path):
    few = ("epochs=6",)
    standard = make("bench:digits-cnn", *few, out=tmp_path / "standard.safetensors")
    hardened = make("bench:digits-cnn-adv", *few, out=tmp_path / "hardened.safetensors")
    assert hardened.pgd20.rate > standard.pgd20.rate + 0.2
    assert hardened.clean.rate > 0.85
    assert hardened.model == f"checkpoint:{tmp_path / 'hardened.safetensors'}@bench:digits-cnn-adv"
    # Two passes an image of N-FGSM where clean training has one; checks on held-out images come on top.
    assert hardened.meter.backward > 1.9 * standard.meter.backward > 0


def test_the_same_settings_are_not_trained_twice(tmp_path, monkeypatch):
    first = make("bench:digits-cnn", "epochs=1", out=tmp_path / "a.safetensors")

    def fail(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr("bench.train.fit_schedule", fail)
    again = make("bench:digits-cnn", "epochs=1", out=tmp_path / "b.safetensors")
    assert first.meter is not None
    assert again.meter is None
    assert first.file.read_bytes() == again.file.read_bytes()


def test_the_radius_decides_which_adversarial_parent_it_is():
    task = parent.task_of(parent_dataset(), DIGITS.threat)
    other = parent.task_of(parent_dataset(), load_track("fashion-mnist-linf-v1").threat)
    assert parent.cached_path("digits-cnn-adv", task) != parent.cached_path("digits-cnn-adv", other)
    assert parent.cached_path("digits-cnn", task) == parent.cached_path("digits-cnn", other)


def parent_dataset():
    from bench.load.datasets import load_dataset

    return load_dataset("digits")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("epoch=3", "Did you mean 'epochs'?"),
        ("epochs", "KEY=VALUE"),
        ("epochs=2.5", "type int"),
        ("epochs=many", "type int"),
        ("learning_rate=-1", "learning_rate > 0"),
    ],
)
def test_bad_settings_get_a_sentence(assignment, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        changed(Schedule(epochs=1, learning_rate=0.1, batch_size=8), [assignment])


def test_settings_of_ones_own_need_a_file():
    with pytest.raises(UsageError, match="--out"):
        make("bench:digits-cnn", "epochs=1")


def test_only_what_the_bench_trains(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "train", "bench:resnet20"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "Expected a network that the bench can train" in capsys.readouterr().err


def test_the_command_says_what_came_out(tmp_path, capsys, monkeypatch):
    out = tmp_path / "net.safetensors"
    asked = ["bench", "train", "bench:digits-cnn", "--set", "epochs=1", "--out", str(out), "--json"]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    facts = json.loads(capsys.readouterr().out)
    assert facts["weights"] == str(out)
    assert facts["schedule"]["epochs"] == 1
    assert SCHEDULES["digits-cnn"].epochs != 1
    assert out.is_file()
