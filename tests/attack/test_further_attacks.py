"""What a compressed subject faces after AutoAttack: each attack sees what the four are blind to."""

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import LINF, Decoy, Linear, linear_task, weights, whole
from torch import nn

from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, estimate_seconds, run_suite
from bench.attack.guides import guide
from bench.attack.probe import Record
from bench.attack.reference import ReferenceEngine
from bench.attack.suites import Budget, further, passes
from bench.compress.bake import bake, unrounded
from bench.compress.fake_quant import ActivationQuantizer
from bench.compress.quantize import Quantize
from bench.model import Subject
from bench.progress import silent

BRIEF = Budget(iterations=30, targets=2, queries=60, deployed_queries=40)
EXTRA = ("transfer", "surrogate", "apgd-scaled", "square-deployed")


def trial(subject, engine=None, **changes) -> Trial:
    settings = {"examples": linear_task(LINF)[1], "threat": LINF, "n_classes": 4, "seed": 0}
    return Trial(
        subject=subject, device=torch.device("cpu"), engine=engine or BenchEngine(budget=BRIEF), **settings | changes
    )


def alone(attack: str, subject: Subject, **changes) -> tuple[list[bool], Record]:
    """Return who survives one attack, and what was seen."""
    some = trial(subject, **changes)
    outcomes, seen = {}, Record()
    for part, record in some.engine(some, attack, list(range(len(some.examples))), silent):
        outcomes, seen = outcomes | part, seen + record
    return [outcomes[number] for number in range(len(some.examples))], seen


def test_each_further_attack_is_asked_for_by_what_the_subject_is():
    model, other, rounded = nn.Identity(), nn.Linear(1, 1), nn.Flatten()
    assert further(whole(model)) == ()
    assert further(Subject(twin=model, parent=other, deployed=model)) == ("transfer",)
    assert further(Subject(twin=model, parent=model, deployed=other)) == ("square-deployed",)
    assert further(Subject(twin=model, parent=other, deployed=other, surrogate=rounded)) == EXTRA


@pytest.mark.parametrize("attack", ["transfer", "surrogate"])
def test_the_gradients_of_a_kin_break_a_subject_that_has_none(attack):
    model, _, survives = linear_task(LINF)
    masked = bake(Decoy4(model))
    standing, seen = alone("apgd-ce", whole(masked))
    assert sum(standing) > int(survives.sum()) + 3
    standing, seen = alone(attack, Subject(twin=masked, parent=model, deployed=masked, surrogate=model))
    assert standing == survives.tolist()
    assert seen.zero_gradients == 0


def test_a_tie_of_two_classes_is_no_reason_to_overflow():
    class Twice(nn.Module):
        """Class 4 is class 0 again, and all logits are large."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            logits = 100 * self.model(images)
            return torch.cat([logits, logits[:, :1]], dim=1)

    model, examples, survives = linear_task(LINF)
    twice = bake(Twice(model).eval())
    standing, seen = alone("apgd-scaled", Subject(twin=twice, parent=model, deployed=twice), n_classes=5)
    assert seen.broken_gradients == 0
    alive = [i for i, label in enumerate(examples.labels.tolist()) if label]
    assert [standing[i] for i in alive] == [bool(survives[i]) for i in alive]


class Decoy4(Decoy):
    """Four classes; the gradient of a bystander."""

    def forward(self, images):
        decoy = images.flatten(1)[:, :4].cumsum(1)
        return self.inner(images).detach() + decoy - decoy.detach()


def test_a_foreign_network_fooled_proves_nothing():
    """The judge asks the subject: one that holds against a parent's worst images stands."""
    images = linear_task(LINF)[1]
    weak = Linear(weights().flip(0), 0.0)
    constant = bake(Fixed())
    subject = Subject(twin=constant, parent=weak, deployed=constant)
    standing, seen = alone("transfer", subject)
    assert standing == (images.labels == 0).tolist()
    # The judge was shown all points of those that stood: what the guide was asked, and the strongest once more.
    most = passes("transfer", 4)
    assert seen.forward <= len(images) * most.forward
    assert seen.forward >= 2 * (BRIEF.iterations + 2) * sum(standing)


class Fixed(nn.Module):
    """Class 0 whatever it sees."""

    def forward(self, images):
        return images.flatten(1)[:, :4] * 0 + torch.tensor([3.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize("factor", [1e3, 1e5])
def test_logits_that_saturate_the_softmax_hide_nothing_from_the_scaled_loss(factor):
    model, _, survives = linear_task(LINF)

    class Loud(nn.Module):
        def forward(self, images):
            return model(images) * factor

    subject = whole(bake(Loud()))
    assert alone("apgd-ce", subject)[1].zero_gradients > 0
    standing, seen = alone("apgd-scaled", subject)
    assert standing == survives.tolist()
    assert seen.zero_gradients == 0


def test_squares_put_to_the_deployed_model_find_its_own_weakness():
    model, images, survives = linear_task(LINF, n=120)
    reach = float(LINF.eps) * float(weights().abs().sum())
    twin, weaker = bake(model), Linear(weights(), model.bias - 0.9 * reach)
    engine = BenchEngine(budget=Budget(queries=5000, deployed_queries=300))
    subject = Subject(twin=twin, parent=twin, deployed=weaker)
    standing, seen = alone("square-deployed", subject, engine=engine, examples=images)
    margins = weaker.margin(images.pixels()).detach() * (1 - 2 * images.labels)
    weak = survives & (margins > 0) & (margins < 0.3 * reach)
    assert weak.sum() >= 2
    assert not (torch.tensor(standing) & weak).any()
    assert (torch.tensor(standing) | ~survives | (margins <= reach)).all()
    assert seen.forward <= len(images) * 303


def test_a_suite_goes_on_with_the_further_attacks_in_either_engine():
    model, _, survives = linear_task(LINF)
    twin = bake(model)
    subject = Subject(twin=twin, parent=bake(Linear(weights())), deployed=bake(model), surrogate=bake(model))
    for engine in (BenchEngine(budget=BRIEF), ReferenceEngine(propose=idle, others=BenchEngine(budget=BRIEF))):
        events = []
        outcome = run_suite(
            trial(subject, engine), "standard", further=EXTRA, journal=MemoryJournal(), report=events.append
        )
        assert outcome.attacks[4:] == EXTRA
        assert set(outcome.letters) <= set(".abcdefgh")
        assert [letter == "." for letter in outcome.letters] == survives.tolist()
        assert all(outcome.records[attack].forward > 0 for attack in EXTRA)
        assert all(0 <= event.done <= event.total for event in events if event.total)


def idle(attack, model, images, *args, **kwargs):
    return images


def test_the_estimate_counts_further_attacks():
    model = bake(linear_task(LINF)[0])
    some = trial(Subject(twin=model, parent=model, deployed=bake(model), surrogate=model))
    extra = sum(passes(attack, 10).total for attack in EXTRA)
    assert extra < 0.2 * sum(passes(attack, 10).total for attack in ("apgd-ce", "apgd-t", "fab-t", "square"))
    assert 0 < estimate_seconds(some, "standard", further=EXTRA) < 3600


def test_a_surrogate_that_is_missing_is_refused():
    with pytest.raises(ValueError, match="expected a subject with a surrogate"):
        guide("surrogate", whole(nn.Identity()))


def test_the_surrogate_keeps_the_rounded_weights_and_rounds_no_activation(honest, digits, ingredients):
    twin = bake(Quantize(weight_bits=4, activation_bits=4)(whole(honest), ingredients).twin)
    images = digits.test.first(20).pixels()
    before = twin(images)
    surrogate = unrounded(twin)
    weights_only = bake(Quantize(weight_bits=4, activation_bits=16)(whole(honest), ingredients).twin)
    assert torch.equal(twin(images), before)
    near, far = ((surrogate(images) - other(images)).norm() for other in (weights_only, twin))
    assert 5 * near < far
    assert all(module.observer is None for module in twin.modules() if isinstance(module, ActivationQuantizer))
    assert unrounded(bake(honest)) is None
