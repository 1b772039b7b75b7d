"""The costs that robust accuracy is plotted against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.entry import Entry
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.render.footnotes import machines


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Something that a prediction costs.

    Attributes:
        key: "bops"; "latency-2" on the second of several machines.
        title: for people: "BOPs", "latency on AMD EPYC, 2 cores, avx2".
        unit: of the values: "", "B" or "ms".
        of: an entry's value; None where it was not measured, or on another machine.
    """

    key: str
    title: str
    unit: str
    of: Callable[[Entry], float | None]


def costs(entries: Iterable[Entry]) -> list[Cost]:
    """Return the costs of these entries; latencies of two machines do not compare and are two costs."""
    places = machines(list(entries))
    found = [
        Cost(key="bops", title="BOPs", unit="", of=lambda entry: entry.efficiency.bops),
        Cost(key="macs", title="MACs", unit="", of=lambda entry: entry.efficiency.macs),
        Cost(key="bytes", title="size", unit="B", of=lambda entry: entry.efficiency.bytes),
    ]
    for i, machine in enumerate(places, 1):
        key = f"latency-{i}" if len(places) > 1 else "latency"
        found.append(Cost(key=key, title=f"latency on {machine}", unit="ms", of=_latency_on(machine)))
    return found


def find_cost(key: str, entries: Iterable[Entry]) -> Cost:
    """Return the cost of that key.

    Raises:
        UsageError: these entries have no such cost.
    """
    known = {cost.key: cost for cost in costs(entries)}
    if key not in known:
        raise UsageError(f"Expected a cost of {', '.join(known)}, got '{key}'.{did_you_mean(key, list(known))}")
    return known[key]


def _latency_on(machine: str) -> Callable[[Entry], float | None]:
    def of(entry: Entry) -> float | None:
        measured = entry.efficiency.latency
        return measured.median_ms if measured and entry.provenance.machine == machine else None

    return of
