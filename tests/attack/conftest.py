import pytest
import torch
from torch import nn

from bench.attack import reference
from bench.attack.driver import BenchEngine
from bench.attack.engine import Engine
from bench.attack.reference import ReferenceEngine
from bench.attack.suites import Budget
from bench.dataset import Dataset
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.clean import cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import train
from bench.load.architectures import build
from bench.load.datasets import load_digits
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

SHORT = Budget(iterations=15, queries=150, targets=3)
DIGITS = ThreatModel(norm="Linf", eps=parse_eps("0.15"))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="session")
def ingredients(digits):
    return Ingredients(
        train=digits.train,
        threat=DIGITS,
        finetune_images=80_000,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        meter=Meter(),
    )


@pytest.fixture(scope="session")
def honest(digits) -> nn.Module:
    """A clean-trained network: right, and not robust."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("digits-cnn", (1, 8, 8), 10)
    train(
        network,
        digits.train,
        cross_entropy,
        Descent(optimizer="adamw", learning_rate=2e-3, batch_size=32),
        images=5 * len(digits.train),
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        stage="train",
    )
    return network


@pytest.fixture(scope="session")
def robust(honest, ingredients) -> nn.Module:
    """The same after three epochs of adversarial training."""
    subject = Subject.of(honest)
    return FinetuneAdversarial(epochs=4, attack_steps=3, learning_rate=0.01, step_ratio=0.5)(subject, ingredients).twin


@pytest.fixture
def short_reference(monkeypatch) -> ReferenceEngine:
    """Cut the reference's budgets, where a test is not about their strength."""
    whole = reference._attacker

    def attacker(attack, *args, **kwargs):
        made = whole(attack, *args, **kwargs)
        made.n_iter, made.n_queries, made.n_target_classes = SHORT.iterations, SHORT.queries, SHORT.targets
        return made

    monkeypatch.setattr(reference, "_attacker", attacker)
    return ReferenceEngine()


@pytest.fixture
def short() -> Engine:
    """Our engine, its budgets cut."""
    return BenchEngine(budget=SHORT)


@pytest.fixture(params=["bench", "reference"])
def either(request) -> Engine:
    """One engine after the other, their budgets cut."""
    return request.getfixturevalue("short" if request.param == "bench" else "short_reference")
