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


def test_a_parent_can_be_trained_with_pgd_as_papers_do(tmp_path):
    made = make("bench:digits-cnn-adv", "epochs=6", "attack_steps=3", out=tmp_path / "pgd.safetensors")
    steps = made.meter.images // made.schedule.batch_size
    assert made.meter.backward == (3 + 1) * steps * made.schedule.batch_size
    assert made.schedule.passes == 6 * 2 * (3 + 1)
    assert made.pgd20.rate > 0.3


def test_the_schedule_of_the_networks_for_a_gpu_reaches_the_training():
    step = parent._step(SCHEDULES["resnet18-adv"])
    assert (step.optimizer, step.learning_rate, step.batch_size) == ("sgd", 0.2, 256)
    assert (step.crop, step.flip) == (4, True)
    assert (step.attack_steps, step.step_ratio, step.precision) == (3, 7 / 12, "bf16")
    assert (
        parent._step(Schedule(epochs=1, learning_rate=0.1, batch_size=8, adversarial=True, attack_steps=3)).step_ratio
        == 0.25
    )
    clean = parent._step(Schedule(epochs=1, learning_rate=0.1, batch_size=8, optimizer="sgd"))
    assert (type(clean).__name__, clean.optimizer, clean.flip) == ("FinetuneClean", "sgd", False)


def test_a_network_with_batch_norm_comes_back_as_it_was_trained(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "resnet20", Schedule(epochs=1, learning_rate=1e-3, batch_size=64))
    first, again = make("bench:resnet20"), make("bench:resnet20")
    assert (again.meter, again.clean, again.pgd20) == (None, first.clean, first.pgd20)
    assert first.clean.rate > 0.3


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
        ("optimizer='lion'", "optimizer"),
        ("attack_steps=7", "0 where training is not adversarial"),
    ],
)
def test_bad_settings_get_a_sentence(assignment, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        changed(Schedule(epochs=1, learning_rate=0.1, batch_size=8), [assignment])


def test_a_bare_word_is_a_string_as_in_evaluate():
    assert changed(Schedule(epochs=1, learning_rate=0.1, batch_size=8), ["precision=bf16"]).precision == "bf16"


def test_settings_of_ones_own_need_a_file():
    with pytest.raises(UsageError, match="--out"):
        make("bench:digits-cnn", "epochs=1")


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "net.safetensors").write_text("mine")
    with pytest.raises(UsageError, match="already; choose another name"):
        make("bench:digits-cnn", "epochs=1", out=tmp_path / "net.safetensors")


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
