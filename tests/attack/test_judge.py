import pytest
import torch
from small_classifiers import L2, LINF, SHAPE, Linear, weights

from bench.attack.judge import correct, judge
from bench.model import Subject

MIDDLE = torch.full((4, *SHAPE), 0.5)
LABELS = torch.tensor([0, 0, 1, 1])


def brightness(threshold: float):
    """Class 1 where any pixel is brighter than the threshold."""

    def classify(images):
        bright = (images.flatten(1).amax(1) > threshold).float()
        return torch.stack([1 - bright, bright, -torch.ones_like(bright), -torch.ones_like(bright)], 1)

    return classify


def subject(twin, deployed=None) -> Subject:
    return Subject(twin=twin, parent=twin, deployed=deployed or twin)


def shifted(by: float) -> torch.Tensor:
    return MIDDLE + by


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_count_as_wrong(value):
    def broken(images):
        logits = torch.zeros(len(images), 4)
        logits[torch.arange(len(images)), LABELS] = 1.0
        logits[1, 3] = value
        return logits

    assert correct(broken, MIDDLE, LABELS).tolist() == [True, False, True, True]


def test_batches_do_not_change_the_answer():
    images = torch.rand(11, *SHAPE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(11) % 2
    model = Linear(weights())
    whole = correct(model, images, labels)
    assert torch.equal(correct(model, images, labels, batch=3), whole)
    assert correct(model, images[:0], labels[:0]).shape == (0,)


def test_proposals_outside_the_ball_are_projected_first():
    eps = float(LINF.eps)
    inside, outside = brightness(0.5 + 0.9 * eps), brightness(0.5 + 1.1 * eps)
    labels = torch.zeros(4, dtype=torch.long)
    assert not judge(subject(inside), shifted(0.4), MIDDLE, labels, LINF).standing.any()
    assert judge(subject(outside), shifted(0.4), MIDDLE, labels, LINF).standing.all()


def test_proposals_outside_the_l2_ball_are_projected_first():
    each = float(L2.eps) / 6  # 36 pixels share the radius
    labels = torch.zeros(4, dtype=torch.long)
    assert not judge(subject(brightness(0.5 + 0.9 * each)), shifted(0.4), MIDDLE, labels, L2).standing.any()
    assert judge(subject(brightness(0.5 + 1.1 * each)), shifted(0.4), MIDDLE, labels, L2).standing.all()


def test_proposals_outside_the_box_are_projected_first():
    originals = torch.full_like(MIDDLE, 0.98)
    labels = torch.zeros(4, dtype=torch.long)
    assert judge(subject(brightness(1.0001)), originals + 0.05, originals, labels, LINF).standing.all()


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf])
def test_garbage_loses_nothing(garbage):
    threshold = brightness(0.51)
    proposals = torch.full_like(MIDDLE, garbage)
    assert judge(subject(threshold), proposals, MIDDLE, torch.zeros(4, dtype=torch.long), LINF).standing.all()
    # One broken pixel does not undo what the others do.
    proposals = shifted(0.05)
    proposals[:, 0, 0, 0] = garbage
    assert not judge(subject(threshold), proposals, MIDDLE, torch.zeros(4, dtype=torch.long), LINF).standing.any()


@pytest.mark.parametrize(("twin", "deployed", "stands"), [(0.9, 0.51, False), (0.51, 0.9, False), (0.9, 0.9, True)])
def test_robust_means_that_neither_the_twin_nor_the_deployed_model_is_fooled(twin, deployed, stands):
    judged = subject(brightness(twin), brightness(deployed))
    found = judge(judged, shifted(0.05), MIDDLE, torch.zeros(4, dtype=torch.long), LINF)
    assert found.standing.tolist() == [stands] * 4
    assert found.disagreed.tolist() == [twin != deployed] * 4
