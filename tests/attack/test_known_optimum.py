"""For a linear classifier the truth is known in closed form; the bench must report exactly that."""

import dataclasses

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import L2, LINF, Linear, linear_task, weights, whole

from bench.attack import reference
from bench.attack.alarms import inspect
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.reference import ReferenceEngine
from bench.attack.suites import SUITES, Budget, passes
from bench.compress.bake import bake
from bench.model import Subject
from bench.progress import silent
from bench.verdicts import STANDING


def attacked(engine, threat, subject=None, examples=None):
    model, known, survives = linear_task(threat)
    trial = Trial(
        subject=subject or whole(bake(model)),
        examples=examples or known,
        threat=threat,
        n_classes=4,
        seed=0,
        device=torch.device("cpu"),
        engine=engine,
    )
    return run_suite(trial, "standard", journal=MemoryJournal(), report=silent), survives


@pytest.fixture(scope="module", params=["bench", "reference"])
def outcomes(request):
    """The whole standard suite under Linf; under L2 a tenth of Square's queries, which decide nothing here."""
    if request.param == "bench":
        fewer = BenchEngine(budget=Budget(queries=500))
        return {"Linf": attacked(BenchEngine(), LINF), "L2": attacked(fewer, L2)}
    whole_suite = reference._attacker

    def fewer_queries(attack, *args, **kwargs):
        made = whole_suite(attack, *args, **kwargs)
        if attack == "square":
            made.n_queries = 500
        return made

    linf = attacked(ReferenceEngine(), LINF)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_attacker", fewer_queries)
        return {"Linf": linf, "L2": attacked(ReferenceEngine(), L2)}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_image_survives_exactly_when_its_margin_exceeds_eps_times_the_dual_norm(outcomes, norm):
    outcome, survives = outcomes[norm]
    assert 5 < survives.sum() < len(survives) - 5
    assert [letter == STANDING for letter in outcome.letters] == survives.tolist()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_honest_linear_model_raises_no_alarm(outcomes, norm):
    outcome, _ = outcomes[norm]
    assert inspect(outcome, n_classes=4) == ()


@pytest.mark.parametrize("attack", SUITES["standard"])
def test_budgets_are_upper_bounds_of_what_the_probe_counts(outcomes, attack):
    outcome, survives = outcomes["Linf"]
    fallen = [letter < chr(ord("a") + SUITES["standard"].index(attack)) for letter in outcome.letters]
    attacked_images = sum(1 for gone, letter in zip(fallen, outcome.letters, strict=True) if letter == "." or not gone)
    record, budget = outcome.records[attack], passes(attack, 4)
    assert attacked_images >= survives.sum()
    assert record.backward <= budget.backward * attacked_images
    assert record.forward <= budget.forward * attacked_images


def test_budgets_are_met_by_images_that_survive(outcomes):
    """All iterations, all targets; both engines, neither of which is cheaper by searching less."""
    outcome, survives = outcomes["Linf"]
    least = {"apgd-ce": 101, "apgd-t": 3 * 101, "fab-t": 3 * 100, "square": 0}
    for attack in SUITES["standard"]:
        record = outcome.records[attack]
        assert record.backward >= least[attack] * int(survives.sum())
        assert record.forward > least[attack] * int(survives.sum())
    # A square that changes nothing is no query to the bench engine; no other is left out.
    assert outcome.records["square"].forward > 2000 * int(survives.sum())


@pytest.mark.parametrize("attack", ["apgd-ce", "apgd-t"])
@pytest.mark.parametrize("twin_errs", [False, True], ids=["twin right", "twin wrong once"])
def test_a_deployed_model_weaker_than_its_twin_is_not_robust(monkeypatch, either, attack, twin_errs):
    """Also where the twin gets another image wrong, which no attack on the twin starts from."""
    monkeypatch.setitem(SUITES, "standard", (attack,))
    model, examples, twin_survives = linear_task(LINF)
    # The same weights, moved towards class 1: right on the clean images, within the adversary's reach on many more.
    reach = float(LINF.eps) * float(weights().abs().sum())
    weaker = Linear(weights(), model.bias - 0.7 * reach)
    with torch.no_grad():
        twins, margins = model.margin(examples.pixels()), weaker.margin(examples.pixels())
    labels = examples.labels.clone()
    if twin_errs:
        labels[(labels == 0) & (margins < 0)] = 1
        assert ((twins > 0) & (labels == 1)).any()
    falls = twin_survives & (labels == 0) & (margins > 0) & (margins < 0.9 * reach)
    assert falls.sum() >= 3
    subject = Subject(twin=bake(model), parent=model, deployed=bake(weaker))
    outcome, _ = attacked(either, LINF, subject, dataclasses.replace(examples, labels=labels))
    assert not any(letter == STANDING for letter, fell in zip(outcome.letters, falls.tolist(), strict=True) if fell)
