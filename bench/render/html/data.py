"""What the page's script knows about each entry, as compact JSON.

Every figure is a text that the table or the card shows already; only what is plotted comes as numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from bench.board.leaderboard import Row
from bench.board.published import Published
from bench.board.ranking import front
from bench.entry import Entry
from bench.render import facts
from bench.render.costs import Cost, costs
from bench.render.html.packing import pack, shown_of_each
from bench.render.letters import segments
from bench.render.published import published_facts
from bench.render.table import Line, Table

Texts = str | Sequence["Texts"]


class Pool:
    """Texts and lists of texts, each kept once: rows share machines, packages, steps and most settings.

    A text is kept as itself, a list as the numbers of its parts, which stand before it.
    """

    def __init__(self) -> None:
        self.kept: list[str | tuple[int, ...]] = []
        self._numbers: dict[str | tuple[int, ...], int] = {}

    def add(self, texts: Texts) -> int:
        """Return the number under which `texts` is kept."""
        key = texts if isinstance(texts, str) else tuple(self.add(part) for part in texts)
        if key not in self._numbers:
            self._numbers[key] = len(self.kept)
            self.kept.append(key)
        return self._numbers[key]


def page_data(
    boards: Mapping[str, Sequence[Row]], tables: Mapping[str, Table], published: Mapping[str, Sequence[Published]]
) -> str:
    """Write the JSON; a row's place in `items` is its number in the page (`order`).

    Args:
        boards: rows by the track's name.
        tables: the same boards as text, published rows among them.
        published: by the track's name.

    Guarantees:
        The text holds no `<`, so that nothing in it can end the element it stands in.
    """
    pool, items = Pool(), []
    most = shown_of_each(sum(map(len, boards.values())))
    known = costs(row.entry for rows in boards.values() for row in rows)
    for number, (track, rows) in enumerate(boards.items()):
        table = tables[track]
        lines = {line.name: line for line in table.lines}
        recipe = table.index("recipe")
        named = {row.entry.name: row for row in rows}
        fronts = [_front(named, cost) for cost in known]
        for name, row in named.items():
            told = _item(pool, row.entry, lines[name], label=lines[name].cells[recipe])
            values = [cost.of(row.entry) for cost in known]
            on = sum(1 << i for i, names in enumerate(fronts) if name in names)
            letters = pack(row.entry.verdicts.letters[:most]) if most else 0
            items.append([*told, number, values, on, letters])
    for number, track in enumerate(boards):
        lines = {line.name: line for line in tables[track].lines}
        for one in published.get(track, ()):
            items.append([*_published_item(pool, one, lines[one.name], tables[track]), number, [], 0, 0])
    record = {
        "tracks": list(boards),
        "costs": [[cost.key, cost.title, cost.unit] for cost in known],
        "pool": pool.kept,
        "items": items,
    }
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def order(
    boards: Mapping[str, Sequence[Row]], published: Mapping[str, Sequence[Published]]
) -> dict[tuple[str, str], int]:
    """Return each row's number by track and name: first all entries, then all published rows."""
    names = [(track, row.entry.name) for track, rows in boards.items() for row in rows]
    names += [(track, one.name) for track in boards for one in published.get(track, ())]
    return {name: number for number, name in enumerate(names)}


def _item(pool: Pool, entry: Entry, line: Line, *, label: str) -> list[Any]:
    robust, does = entry.verdicts.robust, entry.recipe.compression
    return [
        pool.add(line.name),
        pool.add(label),
        pool.add([entry.model, does.precision, entry.recipe.finetuning, line.standing, entry.status, *does.kinds]),
        pool.add(_panel(entry)),
        [round(100 * share, 3) for share in (robust.rate, *robust.interval)],
    ]


def _published_item(pool: Pool, row: Published, line: Line, table: Table) -> list[Any]:
    label = line.cells[table.index("recipe")]
    does, low_high = row.compression, row.robust_count.interval if row.robust_count else None
    question = f"{row.dataset} · {row.threat} · {row.attack}"
    told = [[name, text] for name, text in published_facts(row) if name not in ("question", "source")]
    return [
        pool.add(row.name),
        pool.add(label),
        pool.add([row.architecture, does.precision, "", line.standing, line.standing, *does.kinds]),
        pool.add([row.method, question, told, row.source]),
        [float(row.robust), *([round(100 * share, 3) for share in low_high] if low_high else [None, None])],
    ]


def _front(named: Mapping[str, Row], cost: Cost) -> set[str]:
    ranked = {name: row.entry for name, row in named.items() if row.rank is not None}
    on = front([(entry.verdicts.robust.count, cost.of(entry), None) for entry in ranked.values()])
    return set(compress(ranked, on))


def _panel(entry: Entry) -> Texts:
    verdicts = entry.verdicts
    return [
        entry.recipe.name,
        entry.recipe.summary,
        facts.about(entry),
        facts.badges(entry),
        [[one.name, one.percent, one.interval, one.count] for one in facts.accuracies(verdicts)],
        [[part.letter, part.outcome, str(part.count), part.colour] for part in segments(verdicts)],
        [[alarm.name, "fatal" if alarm.fatal else "a warning", alarm.evidence] for alarm in verdicts.alarms],
        [
            [cost.name.strip(), cost.deployed, cost.parent, cost.ratio, cost.remark]
            for cost in facts.costs(entry.efficiency, entry.parent)
        ],
        [[step.name, step.settings] for step in facts.steps(entry.recipe.steps)],
        list(facts.evidence(entry)),
        entry.command,
    ]
