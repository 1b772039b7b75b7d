"""Rows side by side: what differs, by how much, how sure that is, and what must not be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import TypedDict, Unpack

from bench.board.intervals import Interval, Paired, unpaired
from bench.board.published import AUTOATTACK, Published, near
from bench.efficiency import COUNTED, Efficiency
from bench.entry import Entry
from bench.errors import UsageError
from bench.threat_model import ThreatModel
from bench.verdicts import AUTOATTACK as FOUR
from bench.verdicts import Proportion


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An accuracy in per cent, with its 95 % interval where the number of images is known."""

    percent: float
    interval: Interval | None

    @classmethod
    def of(cls, proportion: Proportion) -> Figure:
        """Take a count's rate and interval."""
        low, high = proportion.interval
        return cls(percent=100 * proportion.rate, interval=(100 * low, 100 * high))


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row that is compared.

    Attributes:
        key: "A", "B", … in the order they were named.
        name: the entry's, or "published:" and the row's.
        row: the entry or the published row.
        dataset: a data set's name.
        threat: what the adversary may do.
        attack: "AutoAttack", "PGD-20", or the attacks of an entry.
        n: number of images; None where the source does not say.
        clean: None where the source gives none.
        robust: under all its attacks; of a published row the lowest figure known.
        autoattack: under AutoAttack alone; None where it did not run.
    """

    key: str
    name: str
    row: Entry | Published
    dataset: str
    threat: ThreatModel
    attack: str
    n: int | None
    clean: Figure | None
    robust: Figure
    autoattack: Figure | None

    @property
    def status(self) -> str:
        """How the row came here: "measured", "verified", "self-reported" or "published"."""
        return self.row.status if isinstance(self.row, Entry) else "published"

    @property
    def efficiency(self) -> Efficiency | None:
        """What a prediction costs; None for a published row."""
        return self.row.efficiency if isinstance(self.row, Entry) else None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Robust accuracy of the first contender minus that of another.

    Attributes:
        other: the other's key.
        points: in percentage points.
        interval: 95 %, in points; None where a number of images is unknown.
        test: "mcnemar" for letters on the same images, "unpaired" for an interval alone, "none" for neither.
        n: images that both were asked about, for "mcnemar".
        p: exact and two-sided, for "mcnemar".
        only_first: indexes of the images on which only the first is robust, for "mcnemar".
        only_other: and those on which only the other is.
        unlike: what the two were asked differently; empty where they may be compared.
        notes: what else to know: radii that are close but not equal, numbers of images that nobody stated.
    """

    other: str
    points: float
    interval: Interval | None
    test: str
    n: int | None = None
    p: float | None = None
    only_first: tuple[int, ...] = ()
    only_other: tuple[int, ...] = ()
    unlike: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Contenders, and how the first differs from each of the others."""

    contenders: tuple[Contender, ...]
    differences: tuple[Difference, ...]


def compare(rows: Sequence[Entry | Published], *, unlike: bool = False) -> Comparison:
    """Compare the first row with each of the others.

    Two entries are compared by all that their attacks left standing, on the same images where the data set is the
    same. Against a published AutoAttack figure an entry stands with what AutoAttack left standing.

    Args:
        rows: two or more.
        unlike: whether to compare what was asked differently all the same, and say how it differs.

    Raises:
        UsageError: fewer than two rows, too many, or rows that were asked differently, unless `unlike`.
    """
    if not 2 <= len(rows) <= len(ascii_uppercase):
        raise UsageError(f"Expected two to {len(ascii_uppercase)} rows to compare, got {len(rows)}.")
    contenders = _told_apart([_contender(key, row) for key, row in zip(ascii_uppercase, rows, strict=False)])
    differences = tuple(_difference(contenders[0], other) for other in contenders[1:])
    if not unlike:
        for other, difference in zip(contenders[1:], differences, strict=True):
            if difference.unlike:
                raise UsageError(
                    f"{contenders[0].name} and {other.name} differ in {'; '.join(difference.unlike)}: "
                    "say --unlike to compare them all the same."
                )
    return Comparison(contenders=contenders, differences=differences)


def _contender(key: str, row: Entry | Published) -> Contender:
    if isinstance(row, Entry):
        verdicts = row.verdicts
        return Contender(
            key=key, name=row.name, row=row, dataset=row.track.dataset, threat=row.track.threat,
            attack=attack_of(row), n=len(verdicts.letters), clean=Figure.of(verdicts.clean),
            robust=Figure.of(verdicts.robust),
            autoattack=Figure.of(verdicts.autoattack) if set(FOUR) <= set(verdicts.attacks) else None,
        )  # fmt: skip
    robust = _published(float(row.robust), row.robust_count)
    weaker = None if row.autoattack is None else Figure(percent=float(row.autoattack), interval=None)
    return Contender(
        key=key, name=f"published:{row.name}", row=row, dataset=row.dataset, threat=row.threat,
        attack=row.attack, n=row.n_examples, robust=robust,
        clean=None if row.clean is None else _published(float(row.clean), row.clean_count),
        autoattack=weaker or (robust if row.attack == AUTOATTACK else None),
    )  # fmt: skip


def _told_apart(contenders: Sequence[Contender]) -> tuple[Contender, ...]:
    """Put the track before the name of entries that have the name of another."""
    names = [one.name for one in contenders]
    return tuple(
        replace(one, name=f"{one.row.track.name}/{one.name}")
        if isinstance(one.row, Entry) and names.count(one.name) > 1
        else one
        for one in contenders
    )


def attack_of(entry: Entry) -> str:
    """Name the attacks of an entry: "AutoAttack", "AutoAttack + transfer", or each by its key."""
    attacks = entry.unchallenged.attacks
    if set(FOUR) <= set(attacks):
        return " + ".join([AUTOATTACK, *(attack for attack in attacks if attack not in FOUR)])
    return " + ".join(attacks)


def _published(percent: float, count: Proportion | None) -> Figure:
    low, high = count.interval if count else (0.0, 0.0)
    return Figure(percent=percent, interval=(100 * low, 100 * high) if count else None)


class _Asked(TypedDict):
    unlike: tuple[str, ...]
    notes: tuple[str, ...]


def _difference(first: Contender, other: Contender) -> Difference:
    asked: _Asked = {"unlike": _unlike(first, other), "notes": _notes(first, other)}
    ours: Proportion | None
    theirs: Proportion | None
    if isinstance(first.row, Entry) and isinstance(other.row, Entry):
        if first.dataset == other.dataset and not _other_images(first, other):
            return _by_letters(first.row, other.row, other.key, **asked)
        ours, theirs = first.row.verdicts.robust, other.row.verdicts.robust
    else:
        ours, theirs = _count(first, other), _count(other, first)
    points = 100 * (ours.rate - theirs.rate) if ours and theirs else _percent(first, other) - _percent(other, first)
    if ours is None or theirs is None:
        return Difference(other=other.key, points=points, interval=None, test="none", **asked)
    low, high = unpaired(ours, theirs)
    return Difference(other=other.key, points=points, interval=(100 * low, 100 * high), test="unpaired", **asked)


def _by_letters(first: Entry, other: Entry, key: str, **asked: Unpack[_Asked]) -> Difference:
    found = Paired.of(first.verdicts.letters, other.verdicts.letters)
    return Difference(
        other=key, points=found.points, interval=found.interval, test="mcnemar", n=found.n,
        p=found.p, only_first=found.only_ours, only_other=found.only_theirs, **asked,
    )  # fmt: skip


def _count(one: Contender, other: Contender) -> Proportion | None:
    """Return the count that an entry or a published row brings against the other; None where it is unknown.

    AutoAttack alone stands against AutoAttack alone, where a published row that fell to more than that still says so.
    """
    if isinstance(one.row, Published):
        return one.row.autoattack_count if _under_autoattack(other, one) else one.row.robust_count
    return one.row.verdicts.autoattack if _under_autoattack(one, other) else one.row.verdicts.robust


def _percent(one: Contender, other: Contender) -> float:
    count = _count(one, other)
    if count:
        return 100 * count.rate
    return one.autoattack.percent if _under_autoattack(other, one) and one.autoattack else one.robust.percent


def _under_autoattack(entry: Contender, other: Contender) -> bool:
    measured = isinstance(entry.row, Entry) and entry.autoattack is not None
    return measured and isinstance(other.row, Published) and other.attack == AUTOATTACK


def _unlike(first: Contender, other: Contender) -> tuple[str, ...]:
    found = []
    if first.dataset != other.dataset:
        found.append(f"data set ({first.dataset}, {other.dataset})")
    elif _other_images(first, other):
        found.append("test images, or their order")
    if first.threat.norm != other.threat.norm:
        found.append(f"norm ({first.threat.norm}, {other.threat.norm})")
    if not _same_eps(first, other):
        found.append(f"eps ({first.threat.eps_text}, {other.threat.eps_text})")
    alike = first.attack == other.attack or _under_autoattack(first, other) or _under_autoattack(other, first)
    if not (alike or _more_than_autoattack(first, other)):
        found.append(f"attack ({first.attack}, {other.attack})")
    if first.n is not None and other.n is not None and first.n != other.n:
        found.append(f"number of images ({first.n:,}, {other.n:,})")
    return tuple(found)


def _other_images(first: Contender, other: Contender) -> bool:
    """Whether two entries were measured on different images under one name."""
    return isinstance(first.row, Entry) and isinstance(other.row, Entry) and not first.row.same_images(other.row)


def _more_than_autoattack(first: Contender, other: Contender) -> bool:
    """Two entries that AutoAttack attacked compare as on the board: a compressed model faces more than its parent."""
    entries = isinstance(first.row, Entry) and isinstance(other.row, Entry)
    return entries and first.attack != other.attack and None not in (first.autoattack, other.autoattack)


def _same_eps(first: Contender, other: Contender) -> bool:
    """Two entries at two radii are two questions; the literature's 0.031 for 8/255 is sloppiness."""
    if isinstance(first.row, Entry) and isinstance(other.row, Entry):
        return first.threat.eps == other.threat.eps
    return near(first.threat.eps, other.threat.eps)


def _notes(first: Contender, other: Contender) -> tuple[str, ...]:
    notes = []
    if first.threat.eps != other.threat.eps and _same_eps(first, other):
        wider, narrower = sorted((first, other), key=lambda one: one.threat.eps, reverse=True)
        notes.append(
            f"{narrower.key}'s eps {narrower.threat.eps_text} is a little less than {wider.key}'s "
            f"{wider.threat.eps_text}, which favours {narrower.key}"
        )
    if _more_than_autoattack(first, other):
        for one, rest in ((first, other), (other, first)):
            if more := [attack for attack in one.attack.split(" + ") if attack not in rest.attack.split(" + ")]:
                notes.append(f"{one.key} faced {', '.join(more)} as well, which can only lower its figure")
    notes += [f"{one.key}'s source does not state the number of images" for one in (first, other) if one.n is None]
    for one in (first, other):
        if isinstance(one.row, Published) and not one.row.trusted:
            notes.append(f"{one.key} is marked {', '.join(one.row.obtained)}")
        elif one.status == "self-reported":
            notes.append(f"{one.key} is self-reported: nobody measured it again")
    both = isinstance(first.row, Entry) and isinstance(other.row, Entry) and first.dataset == other.dataset
    if both and first.n and other.n and first.n != other.n:
        notes.append(f"{first.key} and {other.key} are compared on their first {min(first.n, other.n):,} images")
    return tuple(notes)


def cost_ratios(first: Contender, other: Contender) -> dict[str, float | None]:
    """Return each cost of `other` relative to the first's; None where one is unknown.

    Latencies compare only where the machine, the runtime and the number of threads are the same.
    """
    ratios: dict[str, float | None] = dict.fromkeys((*COUNTED, "latency"))
    ours, theirs = first.efficiency, other.efficiency
    if ours is None or theirs is None:
        return ratios
    for cost in COUNTED:
        base = getattr(ours, cost)
        ratios[cost] = getattr(theirs, cost) / base if base else None
    if ours.latency and theirs.latency and _place(first) == _place(other) and ours.latency.median_ms:
        ratios["latency"] = theirs.latency.median_ms / ours.latency.median_ms
    return ratios


def _place(one: Contender) -> tuple[str, str, int] | None:
    if not isinstance(one.row, Entry) or one.row.efficiency.latency is None:
        return None
    latency = one.row.efficiency.latency
    return (one.row.provenance.machine, latency.runtime, latency.threads)
