"""PGD-20 beside the suite: right where the answer is known, and loud where it finds what the suite did not."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from bench.attack.engine import Outcome, Trial
from bench.dataset import Examples
from bench.model import Subject
from bench.pgd20 import after_pgd20, beats_the_suite, pgd20
from bench.run.album import FileAlbum
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


def trial(network, examples):
    return Trial(
        subject=Subject.of(network),
        examples=examples,
        threat=ThreatModel(norm="Linf", eps=Fraction("0.01")),
        n_classes=2,
        seed=0,
        device=torch.device("cpu"),
    )


def test_a_linear_classifier_keeps_what_the_closed_form_says(line):
    network, examples, margin = line
    expected = (margin > 0.01).tolist()
    assert 0 < sum(expected) < N
    assert not ((margin - 0.01).abs() < 1e-6).any()
    assert pgd20(trial(network, examples)) == expected


def test_images_that_only_pgd_breaks_have_its_letter_and_are_an_alarm():
    stood = [True, False, False, True, False]
    after = after_pgd20(Outcome(attacks=("apgd-ce",), letters=".a..x"), stood)
    assert (after.attacks, after.letters) == (("apgd-ce", "pgd-20"), ".ab.x")
    (alarm,) = beats_the_suite(after)
    assert (alarm.name, alarm.fatal) == ("pgd-20-beats-suite", False)
    assert alarm.evidence.startswith("1 of the images")
    assert beats_the_suite(after_pgd20(Outcome(attacks=("apgd-ce",), letters=".aa.x"), stood)) == ()


def test_the_images_that_fall_are_kept(line, tmp_path):
    network, examples, _ = line
    album = FileAlbum(tmp_path)
    stood = pgd20(replace(trial(network, examples), album=album))
    kept = album.load("pgd-20")
    assert [number in kept for number in range(N)] == [not stands for stands in stood]
    images = torch.stack([torch.from_numpy(kept[number]) for number in sorted(kept)])
    labels = examples.labels[torch.tensor(sorted(kept))]
    assert (network(images).argmax(1) != labels).all()


def test_a_network_without_gradients_is_no_crash():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :2]

    examples = Examples(images=torch.zeros(3, 1, 4, 4, dtype=torch.uint8), labels=torch.zeros(3, dtype=torch.int64))
    assert pgd20(trial(Cut(), examples)) == [True] * 3
