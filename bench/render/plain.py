"""Boards, comparisons and published rows as plain data: for `--json`, and for `--csv` with column names that stay."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from bench.board.comparison import Comparison, Contender, Difference, Figure, cost_ratios
from bench.board.leaderboard import Row
from bench.board.published import Published
from bench.entry import Entry

Record = dict[str, Any]
BOARD = (
    "track", "rank", "pareto", "status", "name", "recipe", "model", "seeds", "images", "robust", "robust_std",
    "robust_low", "robust_high", "autoattack", "clean", "delta", "bops", "macs", "parameters", "nonzeros", "bytes",
    "latency_ms", "latency_ratio", "machine", "alarms",
    "attack", "eps", "source", "finetune_relative_cost",
)  # fmt: skip
COMPARISON = (
    "key", "name", "status", "dataset", "norm", "eps", "attack", "images", "robust", "robust_low", "robust_high",
    "autoattack", "clean", "clean_low", "clean_high", "difference", "difference_low", "difference_high", "test", "p",
    "only_first", "only_this", "unlike", "macs", "bops", "parameters", "bytes", "latency_ms", "macs_ratio",
    "bops_ratio", "parameters_ratio", "bytes_ratio", "latency_ratio",
)  # fmt: skip
PUBLISHED = (
    "name", "method", "dataset", "norm", "eps", "stated_eps", "architecture", "compression", "pruning_ratio",
    "sparsity", "weight_bits", "activation_bits", "stated_compression", "clean", "robust", "autoattack", "claim",
    "attack", "stated_attack", "n_examples", "extra_data", "obtained", "source", "paper", "venue", "note",
)  # fmt: skip


def as_csv(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write records under these columns; what is unknown is empty, and lists are joined by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(record.get(column)) for column in columns] for record in records)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return "" if value is None else value


def board_json(rows: Sequence[Row]) -> list[Record]:
    """Write a board's rows whole: with the entry, and with the entries of the other seeds."""
    return [
        {
            "name": row.entry.name,
            "rank": row.rank,
            "pareto": row.pareto,
            "delta": row.delta,
            "finetune_relative_cost": row.entry.effort.relative_cost,
            "robust_mean": row.robust_mean,
            "robust_std": row.robust_std,
            "seeds": [entry.seed for entry in row.seeds],
            "entry": row.entry.model_dump(mode="json"),
            "others": [entry.model_dump(mode="json") for entry in row.seeds if entry is not row.entry],
        }
        for row in rows
    ]


def board_records(track: str, rows: Sequence[Row]) -> list[Record]:
    """Write a board's rows flat, accuracies in per cent."""
    return [_board_record(track, row) for row in rows]


def _board_record(track: str, row: Row) -> Record:
    entry, cost = row.entry, row.entry.efficiency
    verdicts, latency = entry.verdicts, cost.latency
    low, high = verdicts.robust.interval
    return {
        "track": track,
        "rank": row.rank,
        "pareto": row.pareto,
        "status": entry.status if entry.ranked else entry.standing,
        "name": entry.name,
        "recipe": entry.recipe.name,
        "model": entry.model,
        "seeds": [one.seed for one in row.seeds],
        "images": len(verdicts.letters),
        "robust": 100 * row.robust_mean,
        "robust_std": None if row.robust_std is None else 100 * row.robust_std,
        "robust_low": 100 * low,
        "robust_high": 100 * high,
        "autoattack": 100 * verdicts.autoattack.rate,
        "clean": 100 * verdicts.clean.rate,
        "delta": row.delta,
        "bops": cost.bops,
        "macs": cost.macs,
        "parameters": cost.parameters,
        "nonzeros": cost.nonzeros,
        "bytes": cost.bytes,
        "latency_ms": latency.median_ms if latency else None,
        "latency_ratio": latency.ratio if latency else None,
        "machine": entry.provenance.machine,
        "alarms": [alarm.name for alarm in verdicts.alarms],
        "attack": " + ".join(verdicts.attacks),
        "eps": str(entry.track.eps),
        "source": "",
        "finetune_relative_cost": entry.effort.relative_cost,
    }


def published_in_board(track: str, rows: Sequence[Published]) -> list[Record]:
    """Write published rows under a board's columns: without a rank, and off the Pareto front."""
    return [
        {
            "track": track, "status": "published", "name": row.name, "recipe": f"{row.method}, {row.compression}",
            "pareto": False, "model": row.architecture, "images": row.n_examples, "robust": row.robust,
            "autoattack": row.autoattack or (row.robust if row.attack == "AutoAttack" else None), "clean": row.clean,
            "alarms": list(row.obtained), "attack": row.attack, "eps": str(row.eps), "source": row.source,
        }
        for row in rows
    ]  # fmt: skip


def published_json(row: Published) -> Record:
    """Write a published row whole; `compression` by its parts and in words."""
    record = row.model_dump(mode="json")
    return {**record, "compression": {**record["compression"], "text": str(row.compression)}}


def published_records(rows: Sequence[Published]) -> list[Record]:
    """Write published rows flat."""
    return [
        {**row.model_dump(), **row.compression.model_dump(), "compression": str(row.compression), "eps": str(row.eps)}
        for row in rows
    ]


def comparison_json(comparison: Comparison) -> Record:
    """Write a comparison whole, with the indexes of all images on which two differ; accuracies in per cent."""
    first = comparison.contenders[0]
    return {
        "contenders": [_contender(one) for one in comparison.contenders],
        "differences": [
            {"first": first.key, **vars(difference), "cost_ratios": cost_ratios(first, other)}
            for other, difference in zip(comparison.contenders[1:], comparison.differences, strict=True)
        ],
    }


def _contender(one: Contender) -> Record:
    counts = one.row.verdicts.counts if isinstance(one.row, Entry) else None
    return {
        "key": one.key, "name": one.name, "published": isinstance(one.row, Published), "dataset": one.dataset,
        "norm": one.threat.norm, "eps": str(one.threat.eps), "attack": one.attack, "images": one.n,
        "robust": _figure(one.robust), "autoattack": _figure(one.autoattack), "clean": _figure(one.clean),
        "status": one.status, "outcomes": counts,
        "efficiency": one.efficiency.model_dump(mode="json") if one.efficiency else None,
    }  # fmt: skip


def _figure(figure: Figure | None) -> Record | None:
    return {"percent": figure.percent, "interval": figure.interval} if figure else None


def comparison_records(comparison: Comparison) -> list[Record]:
    """Write a comparison flat: a row a contender, with its difference from the first."""
    first = comparison.contenders[0]
    found: list[Difference | None] = [None, *comparison.differences]
    return [_flat(first, one, difference) for one, difference in zip(comparison.contenders, found, strict=True)]


def _flat(first: Contender, one: Contender, difference: Difference | None) -> Record:
    record: Record = {
        "key": one.key, "name": one.name, "status": one.status, "dataset": one.dataset, "norm": one.threat.norm,
        "eps": str(one.threat.eps), "attack": one.attack, "images": one.n,
        "autoattack": one.autoattack.percent if one.autoattack else None,
    }  # fmt: skip
    for name, figure in (("robust", one.robust), ("clean", one.clean)):
        low, high = figure.interval if figure and figure.interval else (None, None)
        record |= {name: figure.percent if figure else None, f"{name}_low": low, f"{name}_high": high}
    if cost := one.efficiency:
        record |= cost.model_dump(include={"macs", "bops", "parameters", "bytes"})
        record["latency_ms"] = cost.latency.median_ms if cost.latency else None
    if difference:
        low, high = difference.interval or (None, None)
        letters = difference.test == "mcnemar"
        record |= {
            "difference": difference.points, "difference_low": low, "difference_high": high, "test": difference.test,
            "p": difference.p, "only_first": len(difference.only_first) if letters else None,
            "only_this": len(difference.only_other) if letters else None, "unlike": difference.unlike,
            **{f"{cost}_ratio": ratio for cost, ratio in cost_ratios(first, one).items()},
        }  # fmt: skip
    return record
