"""Intervals of differences, against published examples and against their promise to cover."""

import random

import pytest

from bench.board.intervals import paired, unpaired
from bench.verdicts import Proportion


def test_newcombes_own_example_of_two_samples():
    found = unpaired(Proportion(count=56, total=70), Proportion(count=48, total=80))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_newcombes_own_example_of_one_sample_asked_twice():
    assert paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize("cells", [(0, 0, 0, 5), (5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0), (3, 1, 0, 9)])
def test_swapping_the_models_mirrors_the_interval(cells):
    both, ours, theirs, neither = cells
    low, high = paired(both, ours, theirs, neither)
    assert -1 <= low <= (ours - theirs) / sum(cells) <= high <= 1
    assert paired(both, theirs, ours, neither) == pytest.approx((-high, -low))


def test_models_that_agree_on_most_images_are_told_apart_better_by_pairs():
    low, high = paired(200, 30, 10, 160)
    wide = unpaired(Proportion(count=230, total=400), Proportion(count=210, total=400))
    assert high - low < 0.6 * (wide[1] - wide[0])


def test_the_paired_interval_covers_the_truth_nineteen_times_of_twenty():
    rng, chances, n = random.Random(0), (0.55, 0.15, 0.08, 0.22), 120
    covered = 0
    for _ in range(1500):
        drawn = rng.choices(range(4), chances, k=n)
        low, high = paired(*(drawn.count(i) for i in range(4)))
        covered += low <= chances[1] - chances[2] <= high
    assert 0.93 < covered / 1500 < 0.98
