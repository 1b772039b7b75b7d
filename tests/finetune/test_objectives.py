"""What each objective sees, costs, and does at its known points."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from bench.dataset import Examples
from bench.errors import UsageError
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.clean import FinetuneClean
from bench.finetune.distill import FinetuneDistill
from bench.finetune.fast import FinetuneFast
from bench.finetune.pgd import attacked, pgd_on_divergence
from bench.finetune.trades import FinetuneTrades
from bench.finetune.watch import Check
from bench.model import Subject
from bench.threat_model import ThreatModel, parse_eps

SHORT = {"epochs": 1, "batch_size": 32}
STEPS = [
    FinetuneClean(**SHORT, holdout=9),
    FinetuneAdversarial(**SHORT, attack_steps=2, holdout=9),
    FinetuneTrades(**SHORT, attack_steps=2),
    FinetuneFast(**SHORT, on_collapse="report"),
    FinetuneFast(**SHORT, kind="noise", holdout=0),
    FinetuneDistill(**SHORT, attack_steps=2),
]


def counting(model: nn.Module, seen: list[int], gone: list[int]) -> None:
    def forward(module, arguments):
        seen.append(len(arguments[0]))

    def backward(module, into, out):
        gone.append(len(out[0]))

    model.register_forward_pre_hook(forward)
    model[-1].register_full_backward_hook(backward)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{type(step).__name__}-{getattr(step, 'kind', '')}")
def test_the_meter_counts_what_passes_through_student_and_teacher(pupil, given, step):
    seen, gone = [], []
    counting(pupil.twin, seen, gone)
    if pupil.parent is not pupil.twin:
        counting(pupil.parent, seen, gone)
    ingredients = given()
    step(pupil, ingredients)
    assert (ingredients.meter.forward, ingredients.meter.backward) == (sum(seen), sum(gone))
    assert ingredients.meter.images in (87, 96)
    assert ingredients.meter.seconds > 0
    assert ingredients.meter.peak_bytes is None or ingredients.meter.peak_bytes > 2**20


def test_an_attack_leaves_weights_as_they_were(tiny):
    model = tiny().train()
    model[0].bias.requires_grad_(False)
    with attacked(model):
        assert not model.training
        assert not any(weight.requires_grad for weight in model.parameters())
    assert model.training
    assert [weight.requires_grad for weight in model.parameters()] == [True, False, True, True, True, True]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_divergence_grows_inside_the_ball(tiny, given, norm):
    model, threat = tiny(), ThreatModel(norm=norm, eps=parse_eps("0.1"))
    images = given().train.pixels()
    believed = model(images).softmax(1).detach()
    generator = torch.Generator().manual_seed(0)
    moved = pgd_on_divergence(model, images, believed, threat, steps=5, step_size=0.03, generator=generator)
    assert threat.contains(moved, images).all()
    gap = (model(moved).softmax(1) - believed).abs().amax(1)
    assert (gap > 1e-3).all()


def test_only_noise_leaves_the_ball_and_never_the_box(tiny, given):
    images, labels = given().train.pixels(), given().train.labels
    threat = given().threat
    inside, outside = (
        FinetuneFast(kind=kind).move(tiny(), images, labels, threat, torch.Generator().manual_seed(0))
        for kind in ("random-start", "noise")
    )
    assert threat.contains(inside, images).all()
    assert 2 * float(threat.eps) < threat.size(outside - images).max() <= 3 * float(threat.eps) + 1e-6
    assert ((outside >= 0) & (outside <= 1)).all()


def test_a_network_taught_by_itself_on_clean_images_stays(given):
    """With its own probabilities as labels the gradient is zero."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval()
    before = copy.deepcopy(model.state_dict())
    step = FinetuneDistill(**SHORT, attack_steps=1, adversarial_share=1e-9, weight_decay=0.0)
    after = step(Subject.of(model), given()).twin.state_dict()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)


def test_the_teacher_is_the_network_before_compression(pupil, given, tiny):
    twin = tiny()
    start = dataclasses.replace(pupil, twin=twin, parent=twin)
    assert start.teacher is twin
    tuned = FinetuneClean(**SHORT)(start, given())
    assert tuned.teacher is tuned.twin
    compressed = dataclasses.replace(tuned, twin=copy.deepcopy(tuned.twin))
    assert FinetuneClean(**SHORT)(compressed, given()).teacher is tuned.twin


@pytest.mark.parametrize(
    ("reads", "found"),
    [("pattern", "0.0% of 96 training images; it is not robust, and cannot teach it"),
     ("brightness", "100.0% of 96 training images")],
)  # fmt: skip
def test_a_teacher_that_is_not_robust_is_named(given, reads, found):
    """Each image says its class twice: by its brightness, and by a chequered pattern fainter than eps."""
    labels = torch.arange(96) % 2
    side = (2 * labels - 1).view(-1, 1, 1, 1)
    pattern = 2 * ((torch.arange(8).view(-1, 1) + torch.arange(8)) % 2) - 1
    images = (128 + side * (64 + 2 * pattern)).to(torch.uint8)
    row = pattern.flatten().float() if reads == "pattern" else torch.ones(64)
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval() for _ in range(2))
    with torch.no_grad():
        teacher[1].weight.copy_(torch.stack([-row, row]))
        teacher[1].bias.copy_(torch.stack([row.sum(), -row.sum()]) * 128 / 255)
    events = []
    ingredients = dataclasses.replace(given(report=events.append), train=Examples(images=images, labels=labels))
    FinetuneDistill(**SHORT, attack_steps=1)(Subject(twin=student, parent=teacher, deployed=student), ingredients)
    (note,) = (event.note for event in events if event.note.startswith("teacher: "))
    assert note == f"teacher: clean 100.0%, PGD-10 {found}"


@pytest.mark.parametrize(
    ("clean", "single", "robust", "collapsed"),
    [(0.9, 0.85, 0.01, True), (0.85, 0.55, 0.48, False), (0.95, 0.1, 0.0, False), (0.0, 0.0, 0.0, False)],
)
def test_catastrophic_overfitting_is_robustness_against_one_step_only(clean, single, robust, collapsed):
    assert Check(clean=clean, single=single, robust=robust).collapsed == collapsed


def test_labels_that_are_not_used_are_not_smoothed():
    with pytest.raises(UsageError, match="expected no label_smoothing"):
        FinetuneDistill(label_smoothing=0.1)
