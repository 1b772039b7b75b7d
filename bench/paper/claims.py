"""The paper's three claims, each with a verdict that follows from entries by rules stated beforehand.

Two entries are compared by their letters: the same images, the worst case over all attacks that each faced. A
difference counts as a loss, as a small one, as none, or as nothing that can be told; that two entries are not
significantly different is no proof that they are equal, so "keeps" asks for an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.board.intervals import Paired
from bench.compression import Compression
from bench.entry import Entry
from bench.paper.study import FINETUNINGS, KINDS, NOTHING, Study, adversarial_kin, is_adversarial
from bench.recipe_changes import changed_settings
from bench.verdicts import LEVEL

MARGIN = 5.0
"""Points of robust accuracy. Less than this is no loss: the paper calls figures comparable that differ by three."""
LEAST = 0.20
"""Robust accuracy worth keeping: twice that of a guess among ten classes. Of less, all could go within the margin."""

Fate = Literal["keeps", "loses a little", "loses", "undecided"]
FATES: dict[Fate, str] = {"keeps": "kept", "loses a little": "lost a little", "loses": "lost", "undecided": "undecided"}
"""What a reader calls them."""
Verdict = Literal["holds", "holds, where the standard network is there already", "does not hold", "cannot be told yet"]
Compared = tuple[Compression, "Pair"]


@dataclass(frozen=True, kw_only=True)
class Pair(Paired):
    """Two entries of one track, compared on the images that both were asked about.

    Attributes:
        ours: the compressed one.
        theirs: what it is compared with.
    """

    ours: Entry
    theirs: Entry

    @property
    def fate(self) -> Fate:
        """What follows; see `fate_of`."""
        return fate_of(self.points, self.interval[0], self.p)


def pair(ours: Entry, theirs: Entry) -> Pair:
    """Compare two entries of one track."""
    return Pair(ours=ours, theirs=theirs, **vars(Paired.of(ours.verdicts.letters, theirs.verdicts.letters)))


def fate_of(points: float, low: float, p: float) -> Fate:
    """Say whether robustness was kept: yes, if the whole interval is above −MARGIN; no, if the loss exceeds MARGIN.

    A loss is one that the test finds, too. Where only its interval exceeds MARGIN it is small: beyond chance, but
    perhaps not one that counts.
    """
    if low >= -MARGIN:
        return "keeps"
    if points >= 0 or p >= LEVEL:
        return "undecided"
    return "loses" if points < -MARGIN else "loses a little"


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """A verdict on a claim, on one track.

    Attributes:
        verdict: what the rules give.
        why: sentences with what decided it.
        evidence: each compression with its pair, in order.
    """

    verdict: Verdict
    why: tuple[str, ...]
    evidence: tuple[Compared, ...] = ()


def inherent(study: Study) -> Ruling:
    """Claim 1: compression does not inherently lose robustness.

    Each compressed entry against the uncompressed one with the same parent and the same fine-tuning, both with the
    recipe's own settings, where that one is robust itself. Of each kind of compression, one entry that keeps its
    robustness is enough.
    """
    found: list[Compared] = []
    idle = 0
    for model in study.parents:
        for compression in study.rows:
            for finetuning in FINETUNINGS:
                ours = study.get(model, compression, finetuning)
                theirs = study.get(model, NOTHING, finetuning)
                if compression == NOTHING or ours is None or theirs is None:
                    continue
                if any(one.recipe.changed for one in (ours, theirs)):  # other settings: not the same fine-tuning
                    continue
                if not _same_parent(ours, theirs):
                    continue
                if theirs.verdicts.robust.interval[0] <= LEAST:
                    idle += 1
                else:
                    found.append((compression, pair(ours, theirs)))
    ruling = _by_kind(found, study.levels)
    if idle:
        nothing = f"{idle} compressed entries stand against an uncompressed one that has no robustness to lose."
        return Ruling(verdict=ruling.verdict, why=(*ruling.why, nothing), evidence=ruling.evidence)
    return ruling


def _same_parent(one: Entry, other: Entry) -> bool:
    """Say whether two entries may have started from the same weights; older ones do not name them."""
    named = {one.parent_weights, other.parent_weights} - {None}
    return len(named) < 2


def reaches(study: Study) -> Ruling:
    """Claim 2: adversarial fine-tuning of a compressed model reaches the robustness of adversarially trained models.

    Each standard parent, compressed and then fine-tuned adversarially, against the same network trained adversarially
    (`NAME-adv`), uncompressed and not fine-tuned. What was fine-tuned with other settings counts, too: the claim says
    that it can be done.
    """
    found: list[Compared] = []
    without, explained = [], []
    for model in (model for model in study.parents if not is_adversarial(model)):
        kin = adversarial_kin(model)
        theirs = study.get(kin, NOTHING, "none") if kin else None
        if theirs is None or theirs.verdicts.robust.interval[0] <= LEAST:
            without.append(
                f"The bench has no adversarially trained network like {model}."
                if kin is None
                else f"{kin}, to compare {model} with, {'has no entry' if theirs is None else 'is not robust itself'}."
            )
            continue
        for row in (row for row in study.rows if row != NOTHING):
            usual = study.get(model, row, "adversarial")
            if usual is not None:
                mine = (usual, *study.variants_of(model, row, "adversarial"))
                found += [(row, pair(ours, theirs)) for ours in mine]
                explained += [_difference(ours) for ours in mine if ours.recipe.changed]
    ruling = _by_kind(found, study.levels)
    return Ruling(verdict=ruling.verdict, why=(*without, *ruling.why, *explained), evidence=ruling.evidence)


def _difference(variant: Entry) -> str:
    """Say which settings of a recipe were changed."""
    name = variant.recipe.name
    changes = [
        f"{path.rpartition('.')[2]} {value}, not {usual}"
        for path, (value, usual) in changed_settings(name, variant.recipe.steps).items()
    ]
    return f"{name} is {name.partition('+')[0]} with {'; '.join(changes) or 'the same settings'}."


def cheaper(study: Study) -> Ruling:
    """Claim 3: it does so at lower cost than adversarial training from scratch.

    Asked of the entries that claim 2 found to reach it: one whose fine-tuning took less than training the very network
    that it is compared with is enough. Where nobody knows that, the paper's baseline stands in: a relative cost of 1.
    Unless that is so with the training of its own parent counted, too, the verdict says so.
    """
    robust = reaches(study)
    there = [(row, one) for row, one in robust.evidence if one.fate == "keeps"]
    known = [
        (cost, study.scratch.get(one.theirs.model, 1.0), one)
        for _, one in there
        if (cost := one.ours.effort.relative_cost) is not None
    ]
    if known:
        cost, scratch, one = min(known, key=lambda each: (each[0] / each[1], each[2].ours.name))
        least = f"the cheapest, {one.ours.recipe.name}, took {cost:.3f}, and training {one.theirs.model} {scratch:.3f}."
        less = sum(cost < scratch for cost, scratch, _ in known)
        if less:
            whole, parents = _with_parents(study, known)
            why = f"{less} of {len(there)} entries that reach it cost less: {least} {parents}"
            verdict: Verdict = "holds" if whole else "holds, where the standard network is there already"
            return Ruling(verdict=verdict, why=(why,), evidence=tuple(there))
        if len(known) == len(there):
            why = f"No entry that reaches it costs less: {least}"
            return Ruling(verdict="does not hold", why=(why,), evidence=tuple(there))
    if there:
        why = "The entries that reach it do not record what their fine-tuning cost."
        return Ruling(verdict="cannot be told yet", why=(why,), evidence=tuple(there))
    if robust.verdict == "does not hold":
        return Ruling(verdict="does not hold", why=("No entry reaches that robustness, at any cost.",))
    return Ruling(verdict="cannot be told yet", why=("No entry is known to reach that robustness.",))


def _with_parents(study: Study, known: Sequence[tuple[float, float, Pair]]) -> tuple[bool, str]:
    """Say whether an entry costs less with the training of its parent counted, too, and what the least such cost is."""
    whole = [
        (cost + before, before, scratch, one)
        for cost, scratch, one in known
        if (before := study.scratch.get(one.ours.model)) is not None
    ]
    if not whole:
        return False, "What training the standard network took is not known."
    total, before, scratch, one = min(whole, key=lambda each: (each[0] / each[2], each[3].ours.name))
    name = one.ours.recipe.name
    more = f"Whoever has to train {one.ours.model} first pays {before:.3f} more, {total:.3f} in all for {name}."
    return total < scratch, more


def _by_kind(found: Sequence[Compared], levels: Sequence[Compression]) -> Ruling:
    """Judge each kind of compression; the claim holds if it does for all, and fails if it fails for one."""
    verdicts, why = [], []
    for kind in KINDS:
        mine = [(row, one) for row, one in found if row.kinds == (kind,)]
        mildest = next((level for level in levels if level.kinds == (kind,)), None)
        verdict = _of_kind(mine, mildest)
        verdicts.append(verdict)
        why.append(f"{_NAMES[kind]}: {verdict}{_told(mine, mildest)}.")
    overall: Verdict = "cannot be told yet"
    if "does not hold" in verdicts:
        overall = "does not hold"
    elif set(verdicts) == {"holds"}:
        overall = "holds"
    return Ruling(verdict=overall, why=tuple(why), evidence=tuple(found))


_NAMES = {"structured": "Pruned channels", "quantised": "Quantised"}


def _of_kind(mine: Sequence[Compared], mildest: Compression | None) -> Verdict:
    fates = {one.fate for _, one in mine}
    if "keeps" in fates:
        return "holds"
    # That strong compression loses robustness says nothing about mild compression.
    if fates == {"loses"} and mildest in {row for row, _ in mine}:
        return "does not hold"
    return "cannot be told yet"


def _told(mine: Sequence[Compared], mildest: Compression | None) -> str:
    if not mine:
        return " (nothing to compare was measured)"
    parts = [
        f"{word} by {_list(one.ours.recipe.name for _, one in mine if one.fate == fate)}"
        for fate, word in FATES.items()
        if any(one.fate == fate for _, one in mine)
    ]
    if mildest is not None and mildest not in {row for row, _ in mine}:
        parts.append(f"{mildest} is missing")
    return f" ({'; '.join(parts)})"


def _list(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


Claim = tuple[str, str, Callable[[Study], Ruling]]
CLAIMS: tuple[Claim, ...] = (
    (
        "Compression does not inherently lose robustness",
        "Each compressed entry is compared with the uncompressed one of the same parent and the same fine-tuning, "
        "where that one has robustness to lose; settings changed with --set are not the same fine-tuning. With 90 % of "
        "the channels gone, the recipes' own fine-tuning begins more gently than otherwise; its schedule was once "
        "chosen on test images (docs/pruning.md), so that its figures are a little optimistic.",
        inherent,
    ),
    (
        "Adversarial fine-tuning of a compressed model reaches the robustness of adversarially trained models",
        "Each compressed and then adversarially fine-tuned standard parent is compared with the same network, "
        "adversarially trained (`-adv`), neither compressed nor fine-tuned. `bench:conv8-adv` has had eight epochs of "
        "N-FGSM, `bench:resnet18-adv` 30 of PGD with three steps: more of them (`bench train` takes `epochs` and "
        "`attack_steps`) may make a network more robust than that.",
        reaches,
    ),
    (
        "At lower cost",
        "Of the entries that reach that robustness, one whose fine-tuning took less than training the network that it "
        "is compared with is enough. Cost: images forward and backward, attacks included, relative to adversarial "
        "training as the paper's baseline does it (20 epochs, here with PGD-7). The bench's own adversarially trained "
        "networks take less than that. Making the standard parent is not in the cost; where the claim is not known to "
        "hold with that counted, too, the verdict says so.",
        cheaper,
    ),
)
"""Each claim as a title, the rule it is judged by, and the judge."""
