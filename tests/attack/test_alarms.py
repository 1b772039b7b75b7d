"""Each known way of looking robust has a tiny model that does it, and an alarm that catches it."""

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import (
    BatchDependent,
    Constant,
    Decoy,
    Detached,
    Dropping,
    NanOnClean,
    NanUnderAttack,
    Probabilities,
    Randomised,
    Rounded,
    Wrapped,
    whole,
)
from torch import nn

from bench.attack.alarms import disagreement, inspect, question, uncounted
from bench.attack.engine import Engine, Outcome, Trial, run_suite
from bench.attack.probe import Record
from bench.compress.bake import bake
from bench.compress.export import agreement, deploy
from bench.compress.quantize import Quantize
from bench.model import Subject
from bench.progress import silent
from bench.stages import probes
from bench.threat_model import ThreatModel, parse_eps
from bench.verdicts import AUTOATTACK

DIGITS = ThreatModel(norm="Linf", eps=parse_eps("0.15"))


def raised(engine: Engine, subject: Subject, digits, n: int = 16) -> dict[str, bool]:
    """Return the alarms of a whole attack, name → fatal."""
    trial = Trial(
        subject=subject,
        examples=digits.test.first(n),
        threat=DIGITS,
        n_classes=10,
        seed=0,
        device=torch.device("cpu"),
        engine=engine,
    )
    outcome = run_suite(trial, "standard", journal=MemoryJournal(), report=silent)
    found = question(subject, digits.test.first(64).pixels()) + inspect(outcome, n_classes=10)
    return {alarm.name: alarm.fatal for alarm in found}


@pytest.mark.parametrize(
    ("cheat", "name"),
    [
        (Randomised, "randomised"),
        (BatchDependent, "batch-dependent"),
        (Probabilities, "probabilities"),
        (Dropping, "training-mode"),
        (Dropping, "randomised"),
        (NanOnClean, "not-finite"),
    ],
)
def test_a_question_uncovers(honest, digits, cheat, name):
    found = question(whole(cheat(honest).eval()), digits.test.first(64).pixels())
    assert name in [alarm.name for alarm in found if alarm.fatal]


def test_a_cost_that_nobody_counted_is_no_cost_of_nothing():
    assert [(alarm.name, alarm.fatal) for alarm in uncounted(0)] == [("nothing-counted", True)]
    assert uncounted(1) == ()


@pytest.mark.parametrize("share", [0.1, 0.45])
def test_randomness_on_some_images_alone_is_uncovered(honest, digits, share):
    images = digits.test.first(64).pixels()
    edge = images.flatten(1).sum(1).quantile(share).item()

    class Sometimes(nn.Module):
        def forward(self, asked):
            dark = (asked.flatten(1).sum(1) <= edge).view(-1, 1)
            return honest(asked) + dark * 0.5 * torch.randn(len(asked), 10).to(asked)

    found = question(whole(Sometimes().eval()), images)
    assert [alarm.name for alarm in found] == ["randomised"]


def test_what_lies_between_the_grey_levels_is_asked_about_too(honest, digits):
    class Between(nn.Module):
        def forward(self, asked):
            off = ((asked * 255).frac().flatten(1).amax(1) > 0.01).view(-1, 1)
            return honest(asked) + off * 0.5 * torch.randn(len(asked), 10).to(asked)

    trial = Trial(
        subject=whole(Between().eval()), examples=digits.test.first(80), threat=DIGITS, n_classes=10, seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    images = probes(trial)
    assert torch.equal(images[:64], digits.test.first(64).pixels())
    assert 0.1 < (images[64:] - images[:64]).abs().max() <= 0.15
    assert question(trial.subject, images[:64]) == ()
    assert [alarm.name for alarm in question(trial.subject, images)] == ["randomised"]


def test_a_network_that_insists_on_float32_is_asked_in_float32(honest, digits):
    class Stubborn(BatchDependent):
        def forward(self, asked):
            return super().forward(asked.float())

    found = question(whole(Stubborn(honest).eval()), digits.test.first(64).pixels())
    assert [alarm.name for alarm in found if alarm.fatal] == ["batch-dependent"]


def test_both_networks_are_questioned(honest, digits):
    images = digits.test.first(64).pixels()
    found = question(Subject(twin=honest, parent=honest, deployed=Randomised(honest)), images)
    assert [alarm.name for alarm in found] == ["randomised"]
    assert "deployed" in found[0].evidence


@pytest.mark.parametrize(
    ("cheat", "name"),
    [(NanUnderAttack, "not-finite-logits"), (Detached, "zero-gradients"), (Rounded, "zero-gradients")],
)
def test_the_attack_uncovers(honest, digits, either, cheat, name):
    assert raised(either, whole(bake(cheat(honest))), digits).get(name) is True


def test_a_decoy_gradient_is_uncovered_by_square(robust, digits, short):
    assert raised(short, whole(bake(Decoy(robust))), digits, n=40).get("square-beats-white-box") is True


def test_a_constant_answer_is_chance_level(digits, short):
    assert raised(short, whole(Constant().eval()), digits, n=40) == {"chance-level": False}


def outcome(letters: str, **records: Record) -> Outcome:
    return Outcome(
        attacks=AUTOATTACK, letters=letters, records={name.replace("_", "-"): each for name, each in records.items()}
    )


@pytest.mark.parametrize(("fallen", "fatal"), [(0, None), (10, None), (11, False), (50, False), (51, True)])
def test_square_beats_white_box_warns_above_one_and_convicts_above_five_per_cent(fallen, fatal):
    found = inspect(outcome("d" * fallen + "." * (1000 - fallen)), n_classes=10)
    assert [alarm.fatal for alarm in found] == ([] if fatal is None else [fatal])


@pytest.mark.parametrize(
    ("attack", "fallen", "fatal"),
    [
        ("transfer", 10, None),
        ("transfer", 11, False),
        ("transfer", 51, True),
        ("surrogate", 51, False),
        ("apgd-scaled", 51, False),
        ("square-deployed", 51, True),
    ],
)
def test_late_finds_warn_and_those_without_the_twin_convict(attack, fallen, fatal):
    found = inspect(Outcome(attacks=(*AUTOATTACK, attack), letters="e" * fallen + "." * (1000 - fallen)), n_classes=10)
    expected = [] if fatal is None else [(f"{attack}-beats-white-box", fatal)]
    assert [(alarm.name, alarm.fatal) for alarm in found] == expected


@pytest.mark.parametrize(("fallen", "alarms"), [(2, 0), (3, 1)])
def test_an_image_or_two_that_fall_late_prove_nothing(fallen, alarms):
    assert len(inspect(outcome("d" * fallen + "." * (20 - fallen)), n_classes=10)) == alarms


def test_what_a_foreign_network_does_is_not_held_against_the_subject():
    seen = {attack: Record(backward=9, broken_gradients=1, broken_logits=1) for attack in ("transfer", "surrogate")}
    found = inspect(Outcome(attacks=(*AUTOATTACK, *seen), letters="." * 20, records=seen), n_classes=10)
    assert found == ()


@pytest.mark.parametrize(("zero", "alarms"), [(5, 0), (6, 1)])
def test_zero_gradients_count_on_the_margin_losses_only(zero, alarms):
    saturated = Record(forward=100, backward=100, zero_gradients=100)
    seen = Record(forward=50, backward=50, zero_gradients=zero)
    found = inspect(
        outcome("." * 90 + "x" * 10, apgd_ce=saturated, apgd_t=seen, fab_t=Record(backward=50)), n_classes=4
    )
    assert len(found) == alarms


def test_gradients_that_are_not_finite_are_fatal_wherever_they_occur():
    found = inspect(outcome("." * 90 + "x" * 10, apgd_ce=Record(backward=9, broken_gradients=1)), n_classes=4)
    assert [(alarm.name, alarm.fatal) for alarm in found] == [("not-finite-gradients", True)]


def names(top1: float, gap: float, noise: float, n: int) -> list[tuple[str, bool]]:
    return [(alarm.name, alarm.fatal) for alarm in disagreement(top1, gap, noise, n)]


@pytest.mark.parametrize(("top1", "n", "alarms"), [(1.0, 24, 0), (23 / 24, 24, 0), (22 / 24, 24, 1), (0.994, 1000, 1)])
def test_a_twin_that_disagrees_is_fatal(top1, n, alarms):
    assert names(top1, 0.0, 0.0, n) == [("twin-disagrees", True)] * alarms
    # However far rounding goes, and however near the logits are: the classes differ.
    assert names(top1, 0.3, 0.3, n) == [("twin-disagrees", True)] * alarms


@pytest.mark.parametrize(
    ("gap", "noise", "alarms"), [(0.0, 0.0, 0), (0.009, 0.0, 0), (0.011, 0.001, 1), (0.05, 0.011, 0), (0.06, 0.011, 1)]
)
def test_a_twin_that_drifts_beyond_rounding_is_a_warning(gap, noise, alarms):
    assert names(1.0, gap, noise, 1000) == [("twin-drifts", False)] * alarms


def test_the_same_classes_from_other_logits_drift(honest, digits):
    images = digits.test.first(200).pixels()
    found = agreement(honest, lambda images: 1.03 * honest(images), images)
    assert names(found.top1, found.gap, found.noise, len(images)) == [("twin-drifts", False)]


def test_a_deployed_model_that_is_another_network_disagrees_with_its_twin(honest, robust, digits):
    images = digits.test.first(200).pixels()
    found = agreement(honest, lambda images: robust(images.flip(3)), images)
    assert names(found.top1, found.gap, found.noise, len(images)) == [("twin-disagrees", True)]


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "W8A8"])
@pytest.mark.parametrize("trained", ["honest", "robust"])
def test_an_honest_model_raises_none(request, digits, ingredients, short, trained, quantised):
    """Clean-trained with saturated cross-entropy, adversarially trained, and both deployed as integers."""
    network: nn.Module = request.getfixturevalue(trained)
    subject = whole(network)
    if quantised:
        subject = Quantize()(subject, ingredients)
        artefact = deploy(subject, (1, 8, 8))
        assert artefact.kind == "onnx-int8"
        agrees = agreement(subject.twin, artefact.classifier, digits.test.pixels())
        assert disagreement(agrees.top1, agrees.gap, agrees.noise, agrees.n) == ()
        subject = Subject(twin=bake(subject.twin), parent=network, deployed=artefact.classifier)
    else:
        subject = whole(bake(network))
    assert raised(short, subject, digits, n=24) == {}


class OnTheEdge(Wrapped):
    """Rounds the sum of the pixels to whole numbers; asked for several images, float32 lost its digits before.

    The sum is a multiple of 1/255, so in float64 it is never near the edge of a step.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total = images.flatten(1).sum(1, keepdim=True)
        if len(images) > 1:
            total = (total + 1e8) - 1e8
        steps = total.round() * torch.eye(10, dtype=images.dtype)[0]
        return self.inner(images) + steps


def test_an_honest_network_may_depend_on_the_batch_by_rounding(honest, digits, ingredients):
    twin = bake(OnTheEdge(Quantize()(whole(honest), ingredients).twin))
    images = digits.test.first(64).pixels()
    together, alone = twin(images), torch.cat([twin(image[None]) for image in images])
    assert ((together - alone).norm(dim=1) / together.std(1)).median() > 0.01
    assert question(whole(twin), images) == ()


@pytest.mark.parametrize(
    ("images_moved", "expected"), [(1, []), (31, []), (33, ["batch-dependent"]), (64, ["batch-dependent"])]
)
def test_an_image_or_two_on_the_edge_of_a_step_convict_nobody(honest, digits, images_moved, expected):
    """An integer runtime has no float64 to be asked in; there the median over the images decides."""
    images = digits.test.first(64).pixels()
    moved = {image.numpy().tobytes() for image in images[:images_moved]}
    assert len({image.numpy().tobytes() for image in images}) == 64

    def deployed(asked):
        alone = len(asked) == 1 and asked[0].numpy().tobytes() in moved
        return honest(asked).roll(1, 1) if alone else honest(asked)

    found = question(Subject(twin=honest, parent=honest, deployed=deployed), images)
    assert [alarm.name for alarm in found if alarm.fatal] == expected


def test_small_logits_do_not_hide_randomness(honest, digits):
    class Whispering(Randomised):
        def forward(self, images):
            return super().forward(images) * 1e-20

    found = question(whole(Whispering(honest)), digits.test.first(64).pixels())
    assert "randomised" in [alarm.name for alarm in found]


def test_gradients_too_small_for_the_reference_count_as_zero(short):
    found = inspect_of_scaled(short, 1e-20)
    assert "zero-gradients" in [alarm.name for alarm in found]


def inspect_of_scaled(engine: Engine, factor: float):
    from small_classifiers import L2, linear_task

    model, examples, _ = linear_task(L2, n=12)

    class Small(nn.Module):
        def forward(self, images):
            return model(images) * factor

    trial = Trial(
        subject=whole(Small()),
        examples=examples,
        threat=L2,
        n_classes=4,
        seed=0,
        device=torch.device("cpu"),
        engine=engine,
    )
    return inspect(run_suite(trial, "standard", journal=MemoryJournal(), report=silent), n_classes=4)
