"""Published figures: what papers and leaderboards claim, with the attack, the source, and how each figure was obtained.

They live beside the entries, in `BOARD/published/*.jsonl`: one row a line, so that a correction is a diff of one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from bench.compression import Compression
from bench.errors import MissingError, UsageError
from bench.files import Skip
from bench.registry import did_you_mean
from bench.threat_model import ThreatModel
from bench.track import Eps
from bench.verdicts import Proportion

AUTOATTACK = "AutoAttack"
FOLDER = "published"

Obtained = Literal[
    "listed", "claimed", "re-evaluated", "lowered", "disputed", "plot", "non-adaptive", "randomised", "unreliable"
]
MEANING: dict[Obtained, str] = {
    "listed": "on a public leaderboard that checks what it lists",
    "claimed": "the authors' own figure for their own method",
    "re-evaluated": "measured by others than the method's authors",
    "lowered": "the authors claimed more; a later or stronger evaluation found this",
    "disputed": "others evaluated the method again and found far less",
    "plot": "read off a plot: good to a third of a point or to one, the note says which",
    "non-adaptive": "the attack did not know the defence: an upper bound, no robust accuracy",
    "randomised": "the model answers at random, and the attack did not average over that",
    "unreliable": "the leaderboard itself marks the evaluation as unreliable",
}
UNTRUSTED: frozenset[Obtained] = frozenset({"disputed", "non-adaptive", "randomised", "unreliable"})
"""How a figure can be obtained that nobody should have to beat."""

NEAR = Fraction(2, 100)
"""Two radii closer than this, relative to the larger, may be compared, and the comparison says so: 0.031 and 8/255."""

Percent = Annotated[Decimal, Field(ge=0, le=100, max_digits=6), PlainSerializer(str)]


class Published(BaseModel):
    """One published figure.

    Attributes:
        name: unique, fit for the command line.
        method: what its authors call it, or the leaderboard's identifier.
        dataset: a data set's name, as the bench spells it.
        norm: "Linf" or "L2".
        eps: radius in units of [0, 1], as exactly as the source has it ("8/255", or "0.031", which is not the same).
        stated_eps: the source's own words where its units are others ("0.1 on [-1, 1]").
        architecture: the network.
        compression: kind and level, as far as the source states it; its share for channels is the one the source
            states, whether that counts channels or weights.
        stated_compression: the source's own words.
        clean: per cent, with the source's digits; None where it gives none.
        robust: per cent: the lowest figure known, so the smaller of AutoAttack's and an external evaluation's.
        autoattack: AutoAttack's figure, where an external evaluation found less.
        claim: the authors' figure, where another stands in `robust`.
        attack: "AutoAttack" (version standard), "PGD-20", "PGD" where the number of steps is not stated.
        stated_attack: the source's own words, where they say more.
        n_examples: number of test images, where the source states it.
        extra_data: whether training used more than the data set; None where the source does not say.
        source: where the figure stands.
        paper: the method's paper.
        venue: where it appeared.
        obtained: how; see `MEANING`.
        note: what else a reader should know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    method: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    norm: Literal["Linf", "L2"]
    eps: Eps
    stated_eps: str | None = None
    architecture: str = Field(min_length=1)
    compression: Compression = Compression()
    stated_compression: str | None = None
    clean: Percent | None = None
    robust: Percent
    autoattack: Percent | None = None
    claim: Percent | None = None
    attack: str = Field(pattern=r"^(AutoAttack|PGD(-[1-9]\d*)?|APGD|certified)$")
    stated_attack: str | None = None
    n_examples: int | None = Field(default=None, gt=0)
    extra_data: bool | None = None
    source: str = Field(pattern=r"^https://\S+$")
    paper: str | None = None
    venue: str | None = None
    obtained: tuple[Obtained, ...] = Field(min_length=1)
    note: str | None = None

    @model_validator(mode="after")
    def _lowest_figure_counts(self) -> Self:
        if self.autoattack is not None and self.autoattack <= self.robust:
            raise ValueError("expected an AutoAttack figure only where an external one is lower")
        if ("lowered" in self.obtained) != any(
            v is not None and v > self.robust for v in (self.claim, self.autoattack)
        ):
            raise ValueError("expected 'lowered' exactly where the claim or AutoAttack's figure is higher")
        return self

    @property
    def threat(self) -> ThreatModel:
        """What the adversary may do."""
        return ThreatModel(norm=self.norm, eps=self.eps)

    @property
    def trusted(self) -> bool:
        """Whether the figure is one that others should have to beat."""
        return not UNTRUSTED & set(self.obtained)

    @property
    def robust_count(self) -> Proportion | None:
        """The robust accuracy as a count; None where the number of images is not stated."""
        return self._count(self.robust)

    @property
    def autoattack_count(self) -> Proportion | None:
        """The same under AutoAttack alone, where an external evaluation found less."""
        return self._count(self.robust if self.autoattack is None else self.autoattack)

    @property
    def clean_count(self) -> Proportion | None:
        """The clean accuracy as a count; None where it or the number of images is not stated."""
        return self._count(self.clean)

    def _count(self, percent: Decimal | None) -> Proportion | None:
        if percent is None or self.n_examples is None:
            return None
        return Proportion(count=round(percent * self.n_examples / 100), total=self.n_examples)


def near(ours: Fraction, theirs: Fraction) -> bool:
    """Say whether two radii are so close that a comparison means something."""
    return abs(ours - theirs) <= NEAR * max(ours, theirs)


def load_published(board: Path, *, skip: Skip | None = None) -> list[Published]:
    """Read the published rows of a board, file by file.

    Args:
        board: folder of entries.
        skip: is told of each line that is not a row, or that has the name of one before; None to raise instead.

    Raises:
        MissingError: the board has none.
        UsageError: a line is not a row, or two rows have one name, and no `skip`.
    """
    files = sorted((board / FOLDER).glob("*.jsonl"))
    if not files:
        raise MissingError(
            f"There are no published figures in {board / FOLDER}: run where the bench is checked out, "
            "or name a folder that has them with --board."
        )
    rows: dict[str, Published] = {}
    for path in files:
        for row in _read(path, skip or _refuse):
            if row.name in rows:
                (skip or _refuse)(f"{path}: two published rows are called '{row.name}': rename one.")
            rows.setdefault(row.name, row)
    return list(rows.values())


def _refuse(sentence: str) -> None:
    raise UsageError(sentence)


def select(
    rows: Iterable[Published],
    *,
    dataset: str = "",
    norm: str = "",
    eps: str = "",
    architecture: str = "",
    compression: str = "",
    attack: str = "",
) -> list[Published]:
    """Return the rows that answer every filter that is not empty, sorted by question, then by robust accuracy.

    Upper and lower case and punctuation do not matter, except in eps; an architecture may be the beginning of one.

    Raises:
        UsageError: a filter that no row of the whole list answers.
    """
    rows = list(rows)
    wanted = {
        "dataset": dataset, "norm": norm, "eps": eps, "architecture": architecture,
        "compression": compression, "attack": attack,
    }  # fmt: skip
    chosen = rows
    for what, value in wanted.items():
        if value:
            keep = _matches(what, value, rows)
            chosen = [row for row in chosen if keep & set(_values(what, row))]
    return sorted(chosen, key=_order)


def _matches(what: str, value: str, rows: Sequence[Published]) -> set[str]:
    known = {text for row in rows for text in _values(what, row)}
    exact = {text for text in known if _same(text, value)}
    begins = {text for text in known if what == "architecture" and _plain(text).startswith(_plain(value))}
    if found := exact or begins:
        return found
    kind = what.replace("dataset", "data set")
    raise UsageError(f"No published row has {kind} '{value}'.{did_you_mean(value, known)}")


def _values(what: str, row: Published) -> tuple[str, ...]:
    match what:
        case "compression":
            return row.compression.kinds or ("none",)
        case "eps":
            return (row.threat.eps_text,)
    return (getattr(row, what),)


def _same(text: str, value: str) -> bool:
    try:
        return Fraction(text) == Fraction(value)
    except (ValueError, ZeroDivisionError):
        return _plain(text) == _plain(value)


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def find_published(name: str, rows: Sequence[Published]) -> Published:
    """Return the row called `name`, or the only one whose name ends so.

    Raises:
        UsageError: none is, or several are.
    """
    found = [row for row in rows if row.name == name] or [row for row in rows if row.name.endswith(f"-{name}")]
    if len(found) > 1:
        raise UsageError(f"Several published rows end in '{name}': say {found[0].name}, or another's whole name.")
    if not found:
        hint = did_you_mean(name, [row.name for row in rows], see="bench list published")
        raise UsageError(f"There is no published row '{name}'.{hint}")
    return found[0]


def beside(rows: Iterable[Published], *, dataset: str, threat: ThreatModel) -> tuple[list[Published], int]:
    """Return the rows worth showing on a board of this question, most robust first, and how many were left out.

    All compressed ones, and of the dense ones the best of each network and attack: they are there for scale.
    """
    asked = [row for row in rows if (row.dataset, row.norm) == (dataset, threat.norm) and near(row.eps, threat.eps)]
    shown: list[Published] = []
    dense: set[tuple[str, str]] = set()
    for row in sorted(asked, key=lambda row: (-row.robust, row.name)):
        network = (row.architecture, row.attack)
        if row.compression.kinds:
            shown.append(row)
        elif row.trusted and network not in dense:
            dense.add(network)
            shown.append(row)
    return shown, len(asked) - len(shown)


def best(
    rows: Iterable[Published], *, dataset: str, threat: ThreatModel, attack: str, compression: Compression | None
) -> Published:
    """Return the row to beat: of those that answer the same question, the one with the highest robust accuracy.

    The same question is: the same data set and norm, an eps that is equal or `near`, and the same attack. Rows nobody
    should have to beat are left out (`UNTRUSTED`); of equal ones the one with the exact eps comes first, then the
    higher clean accuracy.

    Args:
        rows: to choose from.
        dataset: a data set's name.
        threat: what the adversary may do.
        attack: "AutoAttack", say.
        compression: the row is of the same kinds and goes at least as far in every level; None for any row.

    Raises:
        UsageError: there is no such row.
    """
    found = [
        row
        for row in rows
        if (row.dataset, row.norm, row.attack) == (dataset, threat.norm, attack)
        and near(row.eps, threat.eps)
        and row.trusted
        and (compression is None or row.compression.at_least(compression))
    ]
    if not found:
        like = "" if compression is None else f" with compression '{compression}' or more of the same kind"
        way_out = "see bench list published" if compression is None else "try published:best@any"
        raise UsageError(f"There is no published {attack} figure for {dataset}, {threat}{like}: {way_out}.")
    return max(found, key=lambda row: (row.robust, row.eps == threat.eps, row.clean or Decimal(), row.name))


def _order(row: Published) -> tuple[str, str, Fraction, bool, str, Decimal, str]:
    return (row.dataset, row.norm, row.eps, row.attack != AUTOATTACK, row.attack, -row.robust, row.name)


def _read(path: Path, skip: Skip) -> Iterator[Published]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        skip(f"Cannot read {path}: {error}.")
        return
    for number, line in enumerate(lines, 1):
        try:
            yield Published.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the row"
            skip(f"{path}, line {number} is not a published row: {where}: {first['msg']}.")
