"""PGD-20 beside the suite: right where the answer is known, and loud where it finds what the suite did not."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from bench.attack.engine import Outcome, Trial
from bench.dataset import Examples
from bench.model import Subject
from bench.pgd20 import pgd20
from bench.threat_model import ThreatModel

SIDE, N = 8, 60


@pytest.fixture
def line():
    """A classifier by the sign of w·x + b, and grey images: an image stands if and only if |w·x + b| > eps·‖w‖₁."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(SIDE * SIDE, generator=generator)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    images = (torch.randint(77, 179, (N, 1, SIDE, SIDE), generator=generator)).to(torch.uint8)
    values = images.flatten(1).float() / 255 @ weights
    bias = -values.median()
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([-weights, weights]) / 2)
        network[1].bias.copy_(torch.stack([-bias, bias]) / 2)
    margin = (values + bias).abs() / weights.abs().sum()
    return network.eval(), Examples(images=images, labels=(values + bias > 0).long()), margin


def asked(line, letters, eps="0.01"):
    network, examples, _ = line
    subject = Subject(twin=network, parent=network, deployed=network)
    threat = ThreatModel(norm="Linf", eps=Fraction(eps))
    trial = Trial(subject=subject, examples=examples, threat=threat, n_classes=2, seed=0, device=torch.device("cpu"))
    return pgd20(trial, Outcome(attacks=("apgd-ce",), letters=letters))


def test_a_linear_classifier_keeps_what_the_closed_form_says(line):
    margin = line[2]
    expected = int((margin > 0.01).sum())
    assert 0 < expected < N
    assert not ((margin - 0.01).abs() < 1e-6).any()
    standing, alarms = asked(line, "".join("." if m > 0.01 else "a" for m in margin))
    assert (standing.count, standing.total) == (expected, N)
    assert alarms == ()


def test_images_that_only_pgd_breaks_are_an_alarm(line):
    fallen = int((line[2] <= 0.01).sum())
    _, (alarm,) = asked(line, "." * N)
    assert alarm.name == "pgd-20-beats-suite"
    assert not alarm.fatal
    assert alarm.evidence.startswith(f"{fallen} of the images")
