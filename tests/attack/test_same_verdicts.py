"""Both engines give the same verdicts: they differ by no more than the reference does from itself between seeds."""

import itertools

import pytest
import torch
from small_classifiers import whole

from bench.attack import reference
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial
from bench.attack.judge import correct
from bench.attack.reference import ReferenceEngine
from bench.attack.suites import STANDARD, Budget
from bench.compress.bake import bake
from bench.compress.quantize import Quantize
from bench.progress import silent
from bench.threat_model import ThreatModel, parse_eps
from bench.verdicts import AUTOATTACK

LINF = ThreatModel(norm="Linf", eps=parse_eps("0.15"))
L2 = ThreatModel(norm="L2", eps=parse_eps("0.6"))
QUICK = Budget(iterations=25, targets=3, queries=300)


def fates(engine, subject, examples, threat, attack, seed) -> list[bool]:
    """Say which of the images that are right when clean survive an attack by itself."""
    trial = Trial(
        subject=subject,
        examples=examples,
        threat=threat,
        n_classes=10,
        seed=seed,
        device=torch.device("cpu"),
        engine=engine,
    )
    right = correct(subject.twin, examples.pixels(), examples.labels).nonzero().flatten().tolist()
    found = {}
    for part, _ in engine(trial, attack, right, silent):
        found |= part
    return [found[number] for number in right]


def apart(one: list[bool], other: list[bool]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def compare(subject, examples, threat, attack, budget, seeds) -> None:
    ours = [fates(BenchEngine(budget=budget), subject, examples, threat, attack, seed) for seed in range(seeds)]
    theirs = [fates(ReferenceEngine(), subject, examples, threat, attack, seed) for seed in range(seeds)]
    spread = max((apart(*pair) for pair in itertools.combinations(theirs, 2)), default=0)
    between = [apart(*pair) for pair in itertools.product(ours, theirs)]
    # Two draws of few seeds scatter; a hundredth of the images is the reference's own spread on such networks.
    slack = max(1, len(examples) // 50)
    assert sum(between) / len(between) <= spread + slack
    surplus = sum(map(sum, ours)) / seeds - sum(map(sum, theirs)) / seeds
    assert surplus <= slack


@pytest.fixture
def quick(monkeypatch):
    attacker = reference._attacker

    def shortened(attack, *args, **kwargs):
        made = attacker(attack, *args, **kwargs)
        made.n_iter, made.n_queries, made.n_target_classes = QUICK.iterations, QUICK.queries, QUICK.targets
        if attack.startswith("apgd"):  # it derives its checkpoints where it is made
            for name, share in (("n_iter_2", 0.22), ("n_iter_min", 0.06), ("size_decr", 0.03)):
                setattr(made, name, max(int(share * QUICK.iterations), 1))
        return made

    monkeypatch.setattr(reference, "_attacker", shortened)


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("attack", AUTOATTACK)
def test_the_engines_agree_on_a_robust_network(quick, robust, digits, attack, threat):
    compare(whole(bake(robust)), digits.test.first(48), threat, attack, QUICK, seeds=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("network", ["robust", "honest", "W8A8"])
@pytest.mark.parametrize("attack", AUTOATTACK)
def test_the_engines_agree_at_full_length(request, digits, ingredients, attack, network, threat):
    """Standard and robust, both norms, and integers with straight-through gradients; three seeds."""
    subject = whole(request.getfixturevalue("honest" if network == "honest" else "robust"))
    if network == "W8A8":
        subject = Quantize()(subject, ingredients)
    compare(whole(bake(subject.twin)), digits.test.first(150), threat, attack, STANDARD, seeds=3)
