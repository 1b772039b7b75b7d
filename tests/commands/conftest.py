"""A small network that was sealed and attacked: what its entry says honestly, and after too weak an attack."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import make_entry
from scrutinised import BUDGET, NAME, SHAPE, TRACK, N
from torch import nn

import bench.audit.repeat
import bench.audit.retrial
import bench.audit.verify
from bench import cli
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.engines import ENGINES
from bench.attack.suites import further
from bench.compress.export import deploy
from bench.compress.quantize import Quantize
from bench.compress.sealed import seal, unseal
from bench.efficiency import Efficiency
from bench.entry import Entry
from bench.finetune.adversarial import FinetuneAdversarial
from bench.load.datasets import load_digits
from bench.model import Subject
from bench.pgd20 import pgd20
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.run.album import FileAlbum
from bench.run.journal import FileJournal
from bench.stages import count_cost, keep_evidence, stand_trial
from bench.threat_model import ThreatModel
from bench.verdicts import Proportion

CPU = torch.device("cpu")
PARENT = Efficiency(
    macs=64 * 48 + 48 * 10, bops=(64 * 48 + 48 * 10) * 1024, parameters=0, nonzeros=0, bytes=0, artefact="onnx-float32"
)


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="session")
def parent() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)).eval()


@pytest.fixture(scope="session")
def world(digits, parent, tmp_path_factory):
    """A sealed W8A8 network that is somewhat robust, what it ships as, and an honest entry with its evidence."""
    root = tmp_path_factory.mktemp("world")
    ingredients = Ingredients(
        train=digits.train, threat=TRACK.threat, finetune_images=80_000, generator=torch.Generator().manual_seed(0),
        device=CPU, report=silent, meter=Meter(),
    )  # fmt: skip
    subject = Subject.of(parent)
    subject = FinetuneAdversarial(epochs=10, attack_steps=3, learning_rate=0.05, step_ratio=0.5)(subject, ingredients)
    subject = Quantize(weight_bits=8, activation_bits=8)(subject, ingredients)
    about = {"sparse": False, "finetuning": {"forward": 640_000, "backward": 640_000}}  # as `make_entry` says
    seal(subject.twin, SHAPE, about, root / "model")
    sealed = unseal(root / "model", CPU)
    made = Subject(twin=sealed.network, parent=parent, deployed=sealed.network)
    artefact = deploy(made, SHAPE)
    trial = Trial(
        subject=stand_trial(made, artefact, compressed=True), examples=digits.test.first(N), threat=TRACK.threat,
        n_classes=10, seed=TRACK.seed, device=CPU,
    )  # fmt: skip
    cost = count_cost(sealed.network, artefact, digits)
    return {"root": root, "trial": trial, "digest": sealed.digest, "cost": cost, "artefact": artefact}


def measured(world, threat: ThreatModel) -> tuple[Entry, Path]:
    """Attack, as an evaluation does; return the entry and the folder of its evidence."""
    folder = world["root"] / f"attacked-at-{threat.eps_text}"
    journal = FileJournal(folder / "journal.json")
    album = FileAlbum(journal.images)
    trial = replace(world["trial"], engine=BenchEngine(budget=BUDGET), album=album, threat=threat)
    outcome = run_suite(trial, "standard", further=further(trial.subject), journal=journal, report=silent)
    entry = make_entry("quant8", outcome.letters, track=TRACK.name, attacks=outcome.attacks)
    entry = entry.changed(sealed=world["digest"], efficiency=world["cost"], engine="bench 2", parent=PARENT,
        pgd20=Proportion(count=sum(pgd20(world["trial"])), total=N),
    )  # fmt: skip
    return entry.changed(evidence=keep_evidence(entry, album, trial.examples, folder)), folder


@pytest.fixture(scope="session")
def honest(world):
    return measured(world, TRACK.threat)


@pytest.fixture(scope="session")
def weak(world):
    """An entry that says 0.15 and was attacked at half of it."""
    return measured(world, ThreatModel(norm="Linf", eps=TRACK.eps / 2))


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "board"


@pytest.fixture
def place(board):
    """Put an entry on the board, changed or not, and its evidence beside it; return its file."""

    def placed(measurement, **changes):
        entry, folder = measurement
        entry = entry.changed(**changes)
        entry.save(board)
        path = entry.path(board)
        path.with_name(f"{NAME}.adversarial.npz").write_bytes((folder / f"{NAME}.adversarial.npz").read_bytes())
        return path

    return placed


@pytest.fixture
def run(world, parent, board, monkeypatch, capsys):
    """Run a command; return its exit code, output and complaints. Exports and the parent are there already."""
    monkeypatch.setattr(bench.audit.retrial, "deploy", lambda *args, threads: world["artefact"])
    monkeypatch.setattr(bench.audit.repeat, "deploy", lambda *args: world["artefact"])
    monkeypatch.setattr(bench.audit.repeat, "load_parent", lambda *args: parent)
    monkeypatch.setattr(bench.audit.verify, "BenchEngine", lambda: BenchEngine(budget=BUDGET))
    monkeypatch.setattr(bench.audit.verify, "ENOUGH", 0)
    monkeypatch.setitem(ENGINES, "bench", lambda: BenchEngine(budget=BUDGET))

    def command(*arguments: str, model: str = "model"):
        given = ["--board", str(board), "--model", str(world["root"] / model), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, *(given if model else given[:2])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return command
