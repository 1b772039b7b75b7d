"""Costs of entries, and the front of each."""

import random

import pytest
from factories import make_entry

from bench.errors import UsageError
from bench.render.costs import costs, find_cost, front


def test_front_is_what_the_definition_says():
    dice = random.Random(0)
    for _ in range(200):
        points = {str(i): (dice.randint(0, 6), dice.randint(0, 6)) for i in range(dice.randint(0, 12))}
        beaten = {
            name
            for name, (cost, robust) in points.items()
            if any(c <= cost and r >= robust and (c, r) != (cost, robust) for c, r in points.values())
        }
        assert front(points) == set(points) - beaten


def test_the_front_is_that_of_the_board(rows):
    ranked = {row.entry.name: row for row in rows if row.rank is not None}
    points = {n: (row.entry.efficiency.bops, row.entry.verdicts.robust.rate) for n, row in ranked.items()}
    assert front(points) == {name for name, row in ranked.items() if row.pareto}


def test_latencies_of_two_machines_are_two_costs():
    here, there = make_entry("quant8", machine="here"), make_entry("quant8-ft", machine="there")
    simulated = make_entry("quant4", bits=4, machine="here")
    assert [cost.key for cost in costs([here, simulated])] == ["bops", "macs", "bytes", "latency"]
    assert [cost.key for cost in costs([here, there])][3:] == ["latency-1", "latency-2"]
    on_the_second = find_cost("latency-2", [here, there])
    assert on_the_second.title == "latency on there"
    assert [on_the_second.of(entry) for entry in (here, there, simulated)] == [None, 0.0213, None]


def test_an_unknown_cost_is_a_mistake():
    with pytest.raises(
        UsageError, match=r"Expected a cost of bops, macs, bytes, latency, got 'bop'. Did you mean 'bops'"
    ):
        find_cost("bop", [make_entry()])
