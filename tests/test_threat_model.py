"""The judge's ground: what is in the threat model, and how an eps is read and written."""

from fractions import Fraction

import pytest
import torch

from bench.errors import UsageError
from bench.threat_model import TOLERANCE, ThreatModel, parse_eps

THREATS = [
    ThreatModel(norm=norm, eps=Fraction(eps)) for norm in ("Linf", "L2") for eps in ("1/255", "8/255", "0.5", "3")
]
SHAPES = [(3, 1, 8, 8), (2, 3, 32, 32), (1, 1, 1, 1)]


def pairs(seed, shape):
    """Images with many pixels at the ends of the box, and proposals near to and far from them."""
    generator = torch.Generator().manual_seed(seed)
    origin = (torch.rand(shape, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    for reach in (1e-4, 0.03, 1.0, 1e4):
        yield origin, origin + reach * torch.randn(shape, generator=generator)


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_project_lands_in_ball_and_box(threat, shape):
    for seed in range(5):
        for origin, images in pairs(seed, shape):
            landed = threat.project(images, origin)
            assert landed.shape == images.shape
            assert threat.contains(landed, origin).all()
            # The same by other means, in float64.
            delta = (landed.double() - origin.double()).flatten(1)
            assert delta.norm(dim=1, p=float("inf") if threat.norm == "Linf" else 2).max() <= float(threat.eps) + 1e-6
            assert landed.min() >= 0
            assert landed.max() <= 1


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_project_leaves_allowed_images_where_they_are(threat):
    for origin, images in pairs(7, (2, 1, 8, 8)):
        landed = threat.project(images, origin)
        assert torch.allclose(threat.project(landed, origin), landed, atol=1e-6)
        assert torch.equal(threat.project(origin, origin), origin)


@pytest.mark.parametrize("eps", ["1e5000", "1e-5000", "1e400", "1e-400", "0", "-1"])
def test_a_radius_that_no_float_tells_from_nothing_or_everything_is_refused(eps):
    with pytest.raises(UsageError, match="Expected eps > 0"):
        ThreatModel(norm="L2", eps=parse_eps(eps))


@pytest.mark.parametrize("eps", ["0.5", "3", "10"])
def test_what_is_projected_is_contained_on_large_images_too(eps):
    threat = ThreatModel(norm="L2", eps=Fraction(eps))
    generator = torch.Generator().manual_seed(0)
    origin = 0.3 + 0.4 * torch.rand(40, 3, 224, 224, generator=generator)
    landed = threat.project(origin + torch.randn(origin.shape, generator=generator), origin)
    assert threat.contains(landed, origin).all()
    assert not threat.contains(origin + (landed - origin) * 1.0001, origin).any()


def test_project_gives_the_nearest_image_of_the_linf_ball():
    threat = ThreatModel(norm="Linf", eps=Fraction(1, 10))
    origin = torch.tensor([0.5, 0.05, 0.95, 0.5]).view(1, 1, 2, 2)
    images = torch.tensor([0.9, -0.5, 1.5, 0.45]).view(1, 1, 2, 2)
    assert torch.allclose(threat.project(images, origin).flatten(), torch.tensor([0.6, 0.0, 1.0, 0.45]))


def test_project_scales_a_long_l2_perturbation_to_eps_and_keeps_its_direction():
    threat = ThreatModel(norm="L2", eps=Fraction(1, 10))
    origin = torch.full((1, 1, 1, 2), 0.5)
    landed = threat.project(origin + torch.tensor([3.0, -4.0]), origin)
    assert torch.allclose((landed - origin).flatten(), torch.tensor([0.06, -0.08]), atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("threat", THREATS[1::4], ids=str)
def test_proposals_that_are_not_finite_fall_back_to_the_origin(threat, bad):
    origin = torch.full((2, 1, 2, 2), 0.5)
    everywhere = threat.project(torch.full_like(origin, bad), origin)
    assert torch.equal(everywhere, origin)
    images = origin.clone()
    images[0, 0, 0, 0] = bad
    images[1] += 0.01
    landed = threat.project(images, origin)
    assert torch.equal(landed[0], origin[0])
    assert torch.allclose(landed[1], images[1])


def test_contains_forgives_rounding_and_nothing_more():
    origin = torch.full((1, 1, 1, 1), 0.5)
    for threat in (ThreatModel(norm=norm, eps=Fraction(8, 255)) for norm in ("Linf", "L2")):
        eps = float(threat.eps)
        assert threat.contains(origin + eps, origin).item()
        assert threat.contains(origin + eps + TOLERANCE / 2, origin).item()
        assert not threat.contains(origin + eps + 3 * TOLERANCE, origin).item()


def test_contains_answers_per_image_and_minds_the_box():
    threat = ThreatModel(norm="Linf", eps=Fraction(1, 10))
    origin = torch.tensor([0.0, 0.0, 1.0, 0.5, 0.5]).view(5, 1, 1, 1)
    images = torch.tensor([0.05, -0.05, 1.05, 0.7, float("nan")]).view(5, 1, 1, 1)
    assert threat.contains(images, origin).tolist() == [True, False, False, False, False]


def test_norms_are_taken_over_all_pixels_and_channels():
    delta = torch.full((2, 3, 4, 5), -0.1)
    assert torch.allclose(ThreatModel(norm="L2", eps=Fraction(1)).size(delta).flatten(), torch.tensor(0.6**0.5))
    assert ThreatModel(norm="Linf", eps=Fraction(1)).size(delta).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("text", ["8/255", "4/255", "0.1", "0.05", "0.5", "0.2", "0.15", "128/255", "3"])
def test_eps_is_exact_and_reads_as_it_is_written(text):
    eps = parse_eps(text)
    assert eps == Fraction(text)
    threat = ThreatModel(norm="L2", eps=eps)
    assert threat.eps_text == text
    assert str(threat) == f"L2 {text}"


def test_eps_is_written_as_a_decimal_before_grey_levels():
    assert ThreatModel(norm="Linf", eps=Fraction(51, 255)).eps_text == "0.2"
    assert ThreatModel(norm="Linf", eps=Fraction(1, 255)).eps_text == "1/255"


@pytest.mark.parametrize("text", ["", "big", "1/0", "8/255/2", "nan", "inf"])
def test_eps_that_is_no_number_is_refused(text):
    with pytest.raises(UsageError, match=r"Expected eps as a string such as '8/255' or '0\.1', got"):
        parse_eps(text)


@pytest.mark.parametrize("eps", [Fraction(0), Fraction(-1, 255)])
def test_eps_must_be_positive(eps):
    with pytest.raises(UsageError, match=r"Expected eps > 0 in units of \[0, 1\]"):
        ThreatModel(norm="Linf", eps=eps)


@pytest.mark.parametrize("norm", ["linf", "L1", "", "l2"])
def test_only_two_norms_in_one_spelling(norm):
    with pytest.raises(UsageError, match="Expected norm 'Linf' or 'L2', got"):
        ThreatModel(norm=norm, eps=Fraction(1, 10))
