"""Each known way of looking robust without being it is broken, or raises an alarm that keeps it off the ranking."""

from pathlib import Path

import pytest
import torch
from cheats import (
    Clamped,
    Detached,
    Detector,
    Dropping,
    DynamicRanges,
    HardSaturated,
    Loud,
    Misleading,
    Noisy,
    Probabilities,
    QuantisedInput,
    RoundedUnits,
    SaturatedUnits,
    SilentUnderAttack,
    SnappedToMean,
    WinnersTakeAll,
)
from torch import nn

from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.suites import Budget, further
from bench.compress.bake import bake
from bench.compress.export import agreement, deploy
from bench.compress.quantize import Quantize
from bench.dataset import Dataset
from bench.entry import Agreement
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.run.journal import FileJournal
from bench.stages import raise_alarms, stand_trial
from bench.threat_model import ThreatModel, parse_eps
from bench.verdicts import Verdicts

THREAT = ThreatModel(norm="Linf", eps=parse_eps("0.15"))
BUDGET = Budget(iterations=25, targets=3, queries=300, deployed_queries=100)
IMAGES, NOISE, CPU = 48, 4, torch.device("cpu")


def judged(subject: Subject, digits: Dataset, folder: Path, agrees: Agreement | None = None) -> Verdicts:
    """Attack the subject as an evaluation does, with shorter attacks, and raise the alarms."""
    trial = Trial(
        subject=subject, examples=digits.test.first(IMAGES), threat=THREAT, n_classes=10, seed=0, device=CPU,
        engine=BenchEngine(budget=BUDGET),
    )  # fmt: skip
    journal = FileJournal(folder / "journal.json")
    outcome = run_suite(trial, "standard", further=further(subject), journal=journal, report=silent)
    raised = raise_alarms(trial, outcome, agrees)
    return Verdicts.of(attacks=outcome.attacks, letters=outcome.letters, alarms=raised)


def whole(model: nn.Module) -> Subject:
    model = bake(model)
    return Subject.of(model)


def integers(parent: nn.Module, digits: Dataset) -> tuple[Subject, Agreement]:
    """Return the parent at W8A8 with what ships of it, and how far the two agree."""
    ingredients = Ingredients(
        train=digits.train, threat=THREAT, finetune_images=1, generator=torch.Generator().manual_seed(0), device=CPU,
        report=silent, meter=Meter(),
    )  # fmt: skip
    subject = Quantize()(Subject.of(parent), ingredients)
    artefact = deploy(subject, digits.image_shape)
    assert artefact.kind == "onnx-int8"
    agrees = agreement(subject.twin, artefact.classifier, digits.test.pixels())
    return stand_trial(subject, artefact, compressed=True), agrees


@pytest.fixture(scope="module")
def broken(undefended, digits, tmp_path_factory) -> int:
    """Images on which the undefended network survives."""
    verdicts = judged(whole(undefended), digits, tmp_path_factory.mktemp("undefended"))
    assert verdicts.alarms == ()
    assert verdicts.clean.count > 0.9 * IMAGES
    assert verdicts.robust.count < 0.1 * IMAGES
    return verdicts.robust.count


@pytest.mark.parametrize(
    ("cheat", "name"),
    [
        (Detached, "zero-gradients"),
        (RoundedUnits, "zero-gradients"),
        (QuantisedInput, "zero-gradients"),
        (HardSaturated, "zero-gradients"),
        (SaturatedUnits, "zero-gradients"),
        (Probabilities, "probabilities"),
        (Noisy, "randomised"),
        (Dropping, "training-mode"),
        (DynamicRanges, "batch-dependent"),
        (SilentUnderAttack, "not-finite-logits"),
        (Misleading, "square-beats-white-box"),
    ],
)
def test_a_cheat_is_kept_off_the_ranking(undefended, digits, tmp_path, cheat, name):
    verdicts = judged(whole(cheat(undefended)), digits, tmp_path)
    assert name in [alarm.name for alarm in verdicts.alarms if alarm.fatal]
    assert verdicts.fatal


def test_a_clamp_at_the_bounds_of_the_box_hides_nothing(undefended, digits, tmp_path, broken):
    """Whether it loses gradients depends on PyTorch; where it does, the model is not ranked."""
    bounds = torch.tensor([0.0, 1.0], requires_grad=True)
    bounds.clamp(0, 1).sum().backward()
    verdicts = judged(whole(Clamped(undefended)), digits, tmp_path)
    if bounds.grad.tolist() == [1.0, 1.0]:
        assert verdicts.robust.count <= broken + NOISE
    else:
        assert [alarm.name for alarm in verdicts.alarms if alarm.fatal] == ["no-gradient-at-bounds"]


@pytest.mark.parametrize("cheat", [Loud, WinnersTakeAll, SnappedToMean])
def test_a_cheat_is_broken(undefended, digits, tmp_path, broken, cheat):
    made = cheat(undefended, digits.train.pixels()) if cheat is SnappedToMean else cheat(undefended)
    assert judged(whole(made), digits, tmp_path).robust.count <= broken + NOISE


def test_a_detector_is_broken_or_convicted(undefended, digits, tmp_path, broken):
    verdicts = judged(whole(Detector(undefended)), digits, tmp_path)
    assert verdicts.fatal or verdicts.robust.count <= broken + NOISE
    assert verdicts.counts["apgd-ce"] > 0.8 * IMAGES


def test_masked_gradients_lead_nowhere_however_far(undefended, digits, tmp_path):
    verdicts = judged(whole(Detached(undefended)), digits, tmp_path)
    assert "robust-beyond-eps" in [alarm.name for alarm in verdicts.alarms]


def test_the_parent_breaks_a_masked_child(undefended, digits, tmp_path, broken):
    twin = bake(Misleading(undefended))
    verdicts = judged(Subject(twin=twin, parent=undefended, deployed=twin), digits, tmp_path)
    assert verdicts.attacks[4] == "transfer"
    assert verdicts.robust.count <= broken + NOISE
    assert verdicts.autoattack.count > verdicts.robust.count + NOISE
    assert "transfer-beats-white-box" in [alarm.name for alarm in verdicts.alarms if alarm.fatal]


@pytest.fixture(scope="module")
def shipped(defended, digits) -> tuple[Subject, Agreement]:
    return integers(defended, digits)


def test_an_integer_model_that_is_not_its_twin_is_convicted(undefended, shipped, digits, tmp_path):
    twin, deployed = bake(undefended), shipped[0].deployed
    apart = agreement(twin, deployed, digits.test.pixels())
    verdicts = judged(Subject(twin=twin, parent=twin, deployed=deployed), digits, tmp_path, apart)
    assert "twin-disagrees" in [alarm.name for alarm in verdicts.alarms if alarm.fatal]


def test_an_honest_adversarially_trained_model_raises_no_alarm(defended, digits, tmp_path):
    verdicts = judged(whole(defended), digits, tmp_path)
    assert verdicts.alarms == ()
    assert verdicts.robust.count > 0.4 * IMAGES


def test_its_honest_w8a8_version_raises_none_either(shipped, digits, tmp_path):
    verdicts = judged(shipped[0], digits, tmp_path, shipped[1])
    assert verdicts.attacks[4:] == ("transfer", "surrogate", "apgd-scaled", "square-deployed")
    assert verdicts.alarms == ()
    assert verdicts.robust.count > 0.4 * IMAGES
