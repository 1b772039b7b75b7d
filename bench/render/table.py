"""One board, as a table that knows no renderer: the terminal, Markdown and HTML all start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.board.leaderboard import Cost, Row
from bench.entry import Entry
from bench.entry import Standing as OfEntry
from bench.render import numbers
from bench.render.footnotes import (
    ALARM,
    PARETO,
    PARTIAL,
    SPARSE,
    STATUS_MARKS,
    Note,
    machines,
    name_of,
    notes,
    raised,
    share,
)
from bench.threat_model import ThreatModel

Standing = OfEntry | Literal["published"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """What stands above the cells.

    Attributes:
        key: stable name, "robust".
        title: first line of the heading.
        unit: second line of the heading; may be empty.
        right: whether cells align right, as figures do.
        drop: narrow renderers leave out the highest first; 0 stays whatever happens.
    """

    key: str
    title: str
    unit: str = ""
    right: bool = True
    drop: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of text.

    Attributes:
        name: the entry's name, which is also its file's.
        cells: one text per column, in the columns' order.
        standing: whether the row is ranked, and if not, why.
        robust: in per cent; what published rows are sorted in by.
        pareto: whether it lies on the Pareto front.
    """

    name: str
    cells: tuple[str, ...]
    standing: Standing
    pareto: bool
    robust: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A board as text.

    Attributes:
        track: the track's name.
        about: one line about the track, for people.
        facts: what all rows share: data set, threat model, number of images, the model if there is but one.
        columns: what stands above the cells.
        lines: the rows, best first.
        notes: footnotes; what matters for trust is said here, however few columns a renderer shows.
    """

    track: str
    about: str
    facts: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[Note, ...]

    def index(self, key: str) -> int:
        """Return which column it is, from 0."""
        return next(i for i, column in enumerate(self.columns) if column.key == key)

    def width_of(self, index: int) -> int:
        """Return the width of a column's widest text."""
        column = self.columns[index]
        return max(len(text) for text in (column.title, column.unit, *(line.cells[index] for line in self.lines)))

    def without(self, key: str) -> Table:
        """Return the table less one column."""
        keep = [i for i, column in enumerate(self.columns) if column.key != key]
        return replace(
            self,
            columns=tuple(self.columns[i] for i in keep),
            lines=tuple(replace(line, cells=tuple(line.cells[i] for i in keep)) for line in self.lines),
            notes=tuple(note for note in self.notes if note.column != key),
        )


def board(rows: Sequence[Row]) -> Table:
    """Write the rows of one track as text.

    Args:
        rows: at least one, in the order of the board.
    """
    entries = [row.entry for row in rows]
    columns = [*_standings(rows), *_accuracies(rows), *_costs(entries, rows[0].cost), *_flags(entries)]
    texts = zip(*(cells for _, cells in columns), strict=True)
    return Table(
        track=entries[0].track.name,
        about=entries[0].track.about,
        facts=_facts(entries),
        columns=tuple(column for column, _ in columns),
        lines=tuple(
            Line(
                name=row.entry.name,
                cells=cells,
                standing=row.entry.standing,
                pareto=row.pareto,
                robust=100 * row.robust_mean,
            )
            for row, cells in zip(rows, texts, strict=True)
        ),
        notes=tuple(notes(rows)),
    )


def _facts(entries: Sequence[Entry]) -> tuple[str, ...]:
    track = entries[0].track
    facts = [track.dataset, str(ThreatModel(norm=track.norm, eps=track.eps)), f"{track.n_examples:,} test images"]
    models = {entry.model for entry in entries}
    return (*facts, models.pop()) if len(models) == 1 else tuple(facts)


_Cells = tuple[Column, list[str]]


def _standings(rows: Sequence[Row]) -> list[_Cells]:
    one_model = len({row.entry.model for row in rows}) == 1
    return [
        (Column(key="rank", title="#"), [numbers.UNKNOWN if row.rank is None else str(row.rank) for row in rows]),
        (Column(key="mark", title="", right=False), [_mark(row) for row in rows]),
        (Column(key="recipe", title="recipe", right=False), [name_of(row) for row in rows]),
        (
            Column(key="model", title="model", right=False, drop=15 if one_model else 1),
            [row.entry.model for row in rows],
        ),
    ]


def _mark(row: Row) -> str:
    alarmed = ALARM if row.entry.verdicts.alarms or not row.entry.whole_suite else ""
    sparse = SPARSE if row.entry.efficiency.compressed_bytes is not None else ""
    partial = PARTIAL if row.entry.partial else ""
    return (PARETO if row.pareto else "") + sparse + STATUS_MARKS.get(row.entry.status, "") + partial + alarmed


def _accuracies(rows: Sequence[Row]) -> list[_Cells]:
    verdicts = [row.entry.verdicts for row in rows]
    # One number of decimals for the whole column, or the eye cannot run down it.
    decimals = numbers.decimals_for(rows[0].entry.track.n_examples)
    columns = [
        (Column(key="robust", title="robust", unit="%"), [f"{100 * row.robust_mean:.{decimals}f}" for row in rows]),
        (
            Column(key="interval", title="", unit="±95 %", drop=1),
            [numbers.half_width(v.robust, decimals) for v in verdicts],
        ),
    ]
    if any(len(row.seeds) > 1 for row in rows):
        texts = [_spread(row, decimals) for row in rows]
        columns.append((Column(key="seeds", title="seeds", unit="± std", drop=3), texts))
    if any(v.autoattack != v.robust for v in verdicts):
        texts = [numbers.percent(v.autoattack, decimals) for v in verdicts]
        columns.append((Column(key="autoattack", title="AutoAttack", unit="%", drop=6), texts))
    columns += [
        (Column(key="clean", title="clean", unit="%"), [numbers.percent(v.clean, decimals) for v in verdicts]),
        (Column(key="delta", title="Δ", unit="points", drop=4), [numbers.points(row.delta, decimals) for row in rows]),
    ]
    return columns


def _spread(row: Row, decimals: int) -> str:
    std = row.robust_std
    return "" if std is None else f"{len(row.seeds)} ±{100 * std:.{decimals}f}"


def _costs(entries: Sequence[Entry], priced: Cost) -> list[_Cells]:
    """Write the costs; that by which ◆ is given is dropped last."""
    costs = [entry.efficiency for entry in entries]
    relative = numbers.level([entry.efficiency.bops / max(entry.parent.bops, 1) for entry in entries], most=3)
    bops_unit, bops = numbers.scaled([cost.bops for cost in costs])
    macs_unit, macs = numbers.scaled([cost.macs for cost in costs])
    parameters_unit, parameters = numbers.scaled([cost.parameters for cost in costs])
    bytes_unit, sizes = numbers.scaled([cost.bytes for cost in costs], unit="B")
    columns = [
        (Column(key="bops", title="BOPs", unit=bops_unit, drop=4), bops),
        (Column(key="bops-ratio", title="BOPs", unit="/ parent", drop=5), [f"×{text}" for text in relative]),
        (Column(key="bytes", title="size", unit=bytes_unit, drop=8), sizes),
        (Column(key="latency", title="latency", unit="/ parent", drop=9), _latencies(entries)),
        (Column(key="macs", title="MACs", unit=macs_unit, drop=13), macs),
        *_finetuning(entries),
        (Column(key="parameters", title="params", unit=parameters_unit, drop=14), parameters),
    ]
    return [(replace(column, drop=2) if column.key == priced else column, cells) for column, cells in columns]


def _finetuning(entries: Sequence[Entry]) -> list[_Cells]:
    """Write what fine-tuning cost; a board on which nothing is known of it has no such column."""
    shares = [entry.effort.relative_cost for entry in entries]
    if not any(shares):
        return []
    known = iter(numbers.level([share for share in shares if share]))
    texts = [f"×{next(known)}" if share else numbers.UNKNOWN if share is None else "0" for share in shares]
    return [(Column(key="finetuning", title="fine-tuning", unit="/ scratch", drop=12), texts)]


def _latencies(entries: Sequence[Entry]) -> list[str]:
    places = machines(entries)
    texts = []
    for entry in entries:
        cost = entry.efficiency
        if cost.latency is None:
            texts.append("sim." if cost.artefact == "simulated" else numbers.UNKNOWN)
            continue
        # Ratios from two machines do not compare: a raised number says which is whose.
        place = raised(places.index(entry.provenance.machine) + 1) if len(places) > 1 else ""
        texts.append(f"{'~' if cost.latency.noisy else ''}×{cost.latency.ratio:.2f}{place}")
    return texts


def _flags(entries: Sequence[Entry]) -> list[_Cells]:
    texts = []
    for entry in entries:
        status = [entry.status] if entry.status == "self-reported" else []
        partial = [share(entry)] if entry.partial else []
        texts.append(", ".join(status + partial + [f"{ALARM} {alarm.name}" for alarm in entry.verdicts.alarms]))
    return [(Column(key="flags", title="flags", right=False, drop=11), texts)] if any(texts) else []
