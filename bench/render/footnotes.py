"""What stands below a board: what its marks mean, and which rows to trust less, with the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.board.leaderboard import Cost, Row
from bench.entry import Entry, Status
from bench.render import numbers

PARETO, ALARM, PARTIAL, SPARSE, OTHERS = "◆", "!", "◐", "∅", "≠"
STATUS_MARKS: dict[Status, str] = {"verified": "✓", "self-reported": "†"}
STATUS_TEXTS: dict[Status, str] = {
    "verified": "Verified: model, letters, images and costs held when they were checked again (bench verify).",
    "self-reported": "Self-reported: sent in with its evidence and not measured again, so not ranked and never ◆.",
}
COST_NAMES: dict[Cost, str] = {"bops": "BOPs", "macs": "MACs", "bytes": "size", "latency": "latency"}
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A footnote.

    Attributes:
        mark: what it explains, "◆".
        text: one sentence.
        column: key of the column it belongs to; a renderer that drops the column drops the note. Empty for the row's.
    """

    mark: str
    text: str
    column: str = ""


def notes(rows: Sequence[Row]) -> list[Note]:
    """Return the footnotes of a board: marks first, then machines, then rows to trust less."""
    entries = [row.entry for row in rows]
    found = []
    if any(row.rank is not None for row in rows):
        text = (
            "Rank: one more than the number of rows that a paired test (McNemar, 5 %) finds more robust; may be shared."
        )
        found.append(Note(mark="#", text=text))
    if any(row.pareto for row in rows):
        price = COST_NAMES[rows[0].cost]
        where = " Latencies compare only on one machine." if rows[0].cost == "latency" else ""
        text = f"Pareto front: no ranked row beats it in robustness or {price} without losing in the other.{where}"
        found.append(Note(mark=PARETO, text=text))
    if any(len(row.seeds) > 1 for row in rows):
        text = (
            "Robust accuracy is the mean over so many seeds, ± its standard deviation (n − 1); "
            "rank, interval, ◆ and costs are those of the median seed."
        )
        found.append(Note(mark="±", text=text))
    if any(row.delta is not None for row in rows):
        text = "Robust accuracy minus that of the same model before compression, on the same images."
        found.append(Note(mark="Δ", text=text, column="delta"))
    if any(entry.effort.relative_cost for entry in entries):
        text = "Images that fine-tuning passes, relative to adversarial training from scratch (20 epochs, PGD-7)."
        found.append(Note(mark="×", text=text, column="finetuning"))
    if any(entry.recipe.changed for entry in entries):
        text = "name+digits: the recipe of that name with settings changed (--set); bench show ENTRY gives the command."
        found.append(Note(mark="+", text=text))
    found += _parent_notes(entries)
    return [*found, *_latency_notes(entries), *_sparse_notes(entries), *_trust_notes(entries)]


def _latency_notes(entries: Sequence[Entry]) -> list[Note]:
    notes = []
    places = machines(entries)
    for number, machine in enumerate(places, 1):
        mark = raised(number) if len(places) > 1 else "×"
        text = f"Latency of one image relative to the parent's, on {machine}."
        notes.append(Note(mark=mark, text=text, column="latency"))
    if any(entry.efficiency.artefact == "simulated" for entry in entries):
        text = "Simulated: no integer kernels exist for these bits, so there is no latency."
        notes.append(Note(mark="sim.", text=text, column="latency"))
    if any(entry.efficiency.latency and entry.efficiency.latency.noisy for entry in entries):
        notes.append(Note(mark="~", text="The machine was too busy for a steady measurement.", column="latency"))
    return notes


def _sparse_notes(entries: Sequence[Entry]) -> list[Note]:
    """Say what zeros buy: bytes, and nothing that dense kernels count or take time for."""
    sparse = [entry for entry in entries if entry.efficiency.compressed_bytes is not None]
    if not sparse:
        return []
    facts = [
        f"{label(entry)} {numbers.share(entry.efficiency.sparsity)}, "
        f"{numbers.amount(entry.efficiency.compressed_bytes or 0, unit='B')} with its zeros left out"
        for entry in sparse
    ]
    text = f"Share of parameters that are zero: {'; '.join(facts)}. MACs, BOPs, size and latency count the zeros."
    return [Note(mark=SPARSE, text=text)]


def _trust_notes(entries: Sequence[Entry]) -> list[Note]:
    statuses = {entry.status for entry in entries}
    notes = [Note(mark=mark, text=STATUS_TEXTS[status]) for status, mark in STATUS_MARKS.items() if status in statuses]
    shares = Counter(share(entry) for entry in sorted(entries, key=_images) if entry.partial)
    several = len({entry.model for entry in entries}) > 1
    for text, count in shares.items():
        who = next(label(entry) for entry in entries if entry.partial and share(entry) == text)
        who = f"{count} rows" if count > 1 else who
        notes.append(Note(mark=PARTIAL, text=f"{who}: {text} images, not ranked."))
    for entry in entries:
        if not entry.whole_suite:
            notes.append(Note(mark=ALARM, text=f"{label(entry)}: attacked by less than AutoAttack, not ranked."))
        for alarm in entry.verdicts.alarms:
            fate = "not ranked" if alarm.fatal else "a warning"
            who = f"{label(entry)} of {entry.model}" if several else label(entry)
            text = f"{who}: {alarm.name} ({fate}): {alarm.evidence.rstrip('.')}."
            notes.append(Note(mark=ALARM, text=text))
    return notes


def _parent_notes(entries: Sequence[Entry]) -> list[Note]:
    """Say where one name stands, or may stand, for several parents: processors round otherwise, and training follows.

    Older rows do not name their parent's weights; those of a network that is loaded are taken to be the same.
    """
    weights: dict[str, set[str | None]] = {}
    for entry in entries:
        if entry.parent_weights or entry.model.startswith("bench:"):
            weights.setdefault(entry.model, set()).add(entry.parent_weights)
    several = [model for model, found in weights.items() if len(found) > 1]
    if not several:
        return []
    which = f"{', '.join(several)} may not be the same weights in every row"
    why = "a network that is trained on first use is another one on another processor. bench show ENTRY names them."
    return [Note(mark=OTHERS, text=f"{which}: {why}")]


def _images(entry: Entry) -> int:
    return len(entry.verdicts.letters)


def name_of(row: Row) -> str:
    """Return what a reader calls a row of the board: of several seeds none is named."""
    return label(row.entry, seed=len(row.seeds) == 1)


def label(entry: Entry, *, seed: bool = True) -> str:
    """Return what a reader calls the row: its recipe, with seed and engine where they are not the usual ones."""
    unusual = [f"seed {entry.seed}"] if seed and entry.seed else []
    unusual += [entry.attacker] if entry.attacker != "bench" else []
    return f"{entry.recipe.name} ({', '.join(unusual)})" if unusual else entry.recipe.name


def share(entry: Entry) -> str:
    """Return how much of the track a partial entry covers."""
    return f"partial {len(entry.verdicts.letters):,}/{entry.track.n_examples:,}"


def machines(entries: Sequence[Entry]) -> list[str]:
    """Return the machines on which latency was measured, in order of appearance."""
    return list(dict.fromkeys(entry.provenance.machine for entry in entries if entry.efficiency.latency))


def raised(number: int) -> str:
    """Write a small raised number."""
    return "".join(_RAISED[int(digit)] for digit in str(number))
