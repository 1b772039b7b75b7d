"""Costs of entries."""

import pytest
from factories import make_entry

from bench.errors import UsageError
from bench.render.costs import costs, find_cost


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
