"""What the paper's grid looks like on one track: who was measured, who is missing, and what the paper found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from bench.board.leaderboard import load_entries
from bench.board.published import Published, load_published
from bench.compression import Compression
from bench.entry import Entry
from bench.files import Skip
from bench.track import Track, load_track, track_names

PAPER = "2403.09441"
Finetuning = Literal["none", "clean", "adversarial"]
FINETUNINGS: tuple[Finetuning, ...] = get_args(Finetuning)
KINDS = ("structured", "quantised")
"""The paper's two ways to compress."""
NOTHING = Compression()
_OBJECTIVES: dict[str, Finetuning] = {"finetune-clean": "clean", "finetune-adversarial": "adversarial"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell of the paper's grid."""

    model: str
    compression: Compression
    finetuning: Finetuning


@dataclass(frozen=True, kw_only=True)
class Study:
    """One track's part of the grid.

    Attributes:
        track: the question.
        cells: the entry that stands in each cell: one with the recipe's own settings where there is one; of several
            the one with the most images, then the first seed.
        scratch: what training a network took, by its name, relative to adversarial training from scratch with PGD-7.
        variants: entries made with settings that somebody changed, whose cell another stands in.
        others: entries of other recipes: combined, or fine-tuned towards another objective.
        left_out: entries that are alarmed, which count for nothing.
        figures: what the paper found with its own attack, by whether its parent was adversarial, and compression.
        levels: every compression the paper tried on this data set, the mildest of each kind first.
    """

    track: Track
    cells: dict[Place, Entry]
    variants: tuple[Entry, ...] = ()
    scratch: Mapping[str, float] = field(default_factory=dict)
    others: tuple[Entry, ...]
    left_out: tuple[Entry, ...]
    figures: dict[tuple[bool, Compression], Published]
    levels: tuple[Compression, ...]

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """Models of the grid: those named by an entry, the track's own and its kin; adversarially trained ones last."""
        named = {place.model for place in self.cells} | {self.track.model}
        found = named | {kin for model in named if (kin := adversarial_kin(model))}
        return tuple(sorted(found, key=lambda model: (is_adversarial(model), model)))

    @cached_property
    def rows(self) -> tuple[Compression, ...]:
        """No compression, the paper's, and what else was measured; see `levels` for the order."""
        return in_order({NOTHING, *self.levels, *(place.compression for place in self.cells)})

    def get(self, model: str, compression: Compression, finetuning: Finetuning) -> Entry | None:
        """Return the entry in a cell; None where nobody measured it."""
        return self.cells.get(Place(model=model, compression=compression, finetuning=finetuning))

    def variants_of(self, model: str, compression: Compression, finetuning: Finetuning) -> tuple[Entry, ...]:
        """Return what was made with other settings than the entry that stands in a cell."""
        place = Place(model=model, compression=compression, finetuning=finetuning)
        return tuple(entry for entry in self.variants if place_of(entry) == place)

    def figure(self, model: str, compression: Compression) -> Published | None:
        """Return what the paper found for the same network, compression and kind of parent, after fine-tuning."""
        found = self.figures.get((is_adversarial(model), compression))
        return found if found and _plain(found.architecture) in _plain(model) else None

    def missing(self, model: str) -> list[Place]:
        """Return the cells of the paper's grid that nobody measured."""
        places = [
            Place(model=model, compression=compression, finetuning=finetuning)
            for compression in (NOTHING, *self.levels)
            for finetuning in FINETUNINGS
        ]
        return [place for place in places if place not in self.cells]


def load_studies(board: Path, *, skip: Skip | None = None) -> list[Study]:
    """Read the studies of every track on a data set of the paper, in its norm.

    Raises:
        MissingError: the board has no published rows.
        UsageError: a file that is not an entry, and no `skip`.
    """
    rows = [row for row in load_published(board) if PAPER in (row.paper or "")]
    asked = {(row.dataset, row.norm) for row in rows}
    tracks = [track for name in track_names() if ((track := load_track(name)).dataset, track.norm) in asked]
    return [study(track, load_entries(board, track.name, skip=skip), rows) for track in tracks]


def study(track: Track, entries: Sequence[Entry], rows: Iterable[Published]) -> Study:
    """Sort a track's entries into the paper's grid.

    Args:
        track: the question.
        entries: of this track.
        rows: of the paper, on any track.
    """
    rows = [row for row in rows if (row.dataset, row.norm) == (track.dataset, track.norm)]
    sound = [entry for entry in entries if entry.standing != "alarmed"]
    cells: dict[Place, Entry] = {}
    others, variants = [], []
    for entry in sorted(sound, key=_preference):
        place = place_of(entry)
        if place is None:
            others.append(entry)
        elif place not in cells:
            cells[place] = entry
        elif entry.recipe.changed:
            variants.append(entry)
    return Study(
        track=track,
        cells=cells,
        variants=tuple(variants),
        others=tuple(others),
        left_out=tuple(entry for entry in entries if entry.standing == "alarmed"),
        # Never at another radius: the paper's 0.1 on [-1, 1] is not 0.1 on [0, 1].
        figures={("adversarial" in row.method, row.compression): row for row in rows if row.eps == track.eps},
        levels=in_order({row.compression for row in rows}),
    )


def _preference(entry: Entry) -> tuple[bool, int, int, str]:
    """Sort entries of one cell: settings that nobody changed first, then most images, then the first seed."""
    return (entry.recipe.changed, -len(entry.verdicts.letters), entry.seed, entry.name)


def place_of(entry: Entry) -> Place | None:
    """Return an entry's cell in the paper's grid; None for a recipe that the paper does not know.

    The paper compresses in one way at most, then fine-tunes once at most, clean or with PGD.
    """
    names = [str(step["step"]) for step in entry.recipe.steps]
    if any("/" in name for name in names):  # somebody's own step is none of the paper's
        return None
    tuned = [name for name in names if name.startswith("finetune-")]
    compression = Compression.of_steps(entry.recipe.steps)
    once = len(tuned) <= 1 and (not tuned or names[-1] == tuned[0]) and len(names) - len(tuned) <= 1
    if not once or any(kind not in KINDS for kind in compression.kinds) or any(n not in _OBJECTIVES for n in tuned):
        return None
    return Place(model=entry.model, compression=compression, finetuning=_OBJECTIVES[tuned[0]] if tuned else "none")


def is_adversarial(model: str) -> bool:
    """Say whether a parent was trained adversarially, as far as its name tells: `bench:conv8-adv`, RobustBench's."""
    return model.endswith("-adv") or (model.startswith("robustbench:") and not model.endswith("Standard"))


_KIN = {"autoattack:resnet18": "bench:resnet18-adv"}


def adversarial_kin(model: str) -> str | None:
    """Return the same network trained adversarially; None where the bench has none."""
    if model.startswith("bench:") and not is_adversarial(model):
        return f"{model}-adv"
    return _KIN.get(model)


def in_order(compressions: Iterable[Compression]) -> tuple[Compression, ...]:
    """Sort compressions by kind, and each kind from mild to strong."""

    def order(one: Compression) -> tuple[Any, ...]:
        ranks = [KINDS.index(kind) if kind in KINDS else len(KINDS) for kind in one.kinds]
        bits = (-(one.weight_bits or 32), -(one.activation_bits or 32))
        return (ranks, one.pruning_ratio or 0.0, *bits, str(one))

    return tuple(sorted(compressions, key=order))


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
