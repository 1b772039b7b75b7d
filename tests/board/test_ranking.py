"""Ranks and fronts by the fast way are those of testing every pair."""

import random
from itertools import accumulate

import pytest

from bench.board import ranking
from bench.board.ranking import Mask, front, ranks
from bench.verdicts import compare, exact, most_losses


def slow_ranks(rows):
    better = [sum(compare(other, row) == "better" for other in rows[:i]) + 1 for i, row in enumerate(rows)]
    return list(accumulate(better, max))


@pytest.mark.parametrize("many", [1, 1000])
@pytest.mark.parametrize("n", [1, 8, 60, 400])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_testing_every_pair(n, seed, many, monkeypatch):
    monkeypatch.setattr(ranking, "MANY", many)  # by numpy, and without
    rng = random.Random(seed)
    base = [rng.random() for _ in range(n)]  # images are hard or easy for everybody, as they are
    rows = []
    for _ in range(40):
        skill, luck = rng.choice([0.2, 0.5, 0.52, 0.55, 0.9, 1.0]), rng.choice([0.0, 0.1, 1.0])
        rows.append("".join("." if (1 - luck) * hard + luck * rng.random() < skill else "a" for hard in base))
    rows.sort(key=lambda row: -row.count("."))
    assert ranks([Mask.of(row) for row in rows], n) == slow_ranks(rows)


def test_nobody_and_one_have_ranks():
    assert ranks([], 10) == []
    assert ranks([Mask.of("..x")], 3) == [1]


def test_the_most_losses_are_those_of_the_exact_test():
    for lead in range(1, 80):
        most = most_losses(lead, 2000)
        if most < 0:
            assert exact(lead, 0) >= 0.05
        else:
            assert exact(lead + most, most) < 0.05 <= exact(lead + most + 1, most + 1)
    assert most_losses(4000, 10_000) == 10_000  # at the limit, and at once


def slow_front(points):
    def dominates(other, point):
        better = other[0] >= point[0] and other[1] <= point[1] and other[:2] != point[:2]
        return other[1] is not None and other[2] == point[2] and better

    return [
        point[1] is not None and not any(dominates(o, point) for o in points if o[1] is not None) for point in points
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_that_of_comparing_every_pair(seed):
    rng = random.Random(seed)
    points = [(rng.randrange(12), rng.choice([None, *range(9)]), rng.choice("AB")) for _ in range(60)]
    assert front(points) == slow_front(points)
