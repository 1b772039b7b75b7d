"""leaderboard/paper.md: our entries beside the paper's Figure 1, and a verdict on each of its claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bench.compression import Compression
from bench.entry import Entry
from bench.paper.better import Better, better, papers_recipes
from bench.paper.claims import CLAIMS, FATES, LEAST, MARGIN, Pair, Ruling
from bench.paper.study import FINETUNINGS, NOTHING, PAPER, Study
from bench.render import numbers
from bench.render.footnotes import PARTIAL, label
from bench.verdicts import LEVEL, TENSOR_FLOAT

_FLOOR = f"{numbers.MINUS}{MARGIN:g}"
_INTRO = f"""# The paper, measured again

*Adversarial Fine-tuning of Compressed Neural Networks* (Thorsteinsson, Henriksen, Chen, Selvan, 2024,
[arXiv {PAPER}](https://arxiv.org/abs/{PAPER})), asked again with attacks that do not stop at PGD-20. Rendered by
`bench paper` from the entries and from `published/`: no figure here is written by hand, and what nobody has measured is
called missing.

Its inputs are normalised to [-1, 1] and eps is applied there, so its 0.1 and 8/255 are 0.05 and 4/255 here: the
`adverfine` tracks, where its figures stand beside ours. The other tracks ask for twice that radius; the paper has no
figure for them.

How the verdicts come about:

- Two entries are compared by their letters, on the same images: the worst case over AutoAttack and what else each
  faced. Difference in points with its 95 % interval (Newcombe, 1998), and McNemar's exact test, not corrected for the
  number of tests.
- *Kept*: the whole interval lies above {_FLOOR} points. *Lost*: the test finds a loss (p < {LEVEL:g}), and the
  difference itself lies below {_FLOOR}. *Lost a little*: the test finds a loss, but only the interval reaches below
  {_FLOOR}. Robustness went, yet perhaps less than {MARGIN:g} points of it: this speaks neither for a claim nor
  against it. *Undecided*: the test finds no loss, but the interval reaches below {_FLOOR}: too few images to tell.
- A claim holds if for each of the paper's two kinds of compression at least one level keeps the robustness. It does
  not hold if for one of the kinds every measured level lost, the mildest of the paper's among them. Else it cannot be
  told yet.
- A model whose 95 % interval begins below {100 * LEAST:g} % (twice a guess among ten classes) has no robustness to
  lose, and nothing is compared with it.
- Entries whose alarms keep them out of any ranking count for nothing. Of several entries in one cell, one with the
  recipe's own settings counts, and of these the one with the most images; what was made with other settings is compared
  beside it in the second and third claim.
"""
_COARSE = f"bench-{TENSOR_FLOAT}"
_COARSELY = f"""- The attacks on entries called *({_COARSE})* (`…--{TENSOR_FLOAT}.json`) searched in TensorFloat-32;
  what they found was judged in float32. Such a search found what one in float32 finds on 100 images of one network on
  a GPU, image by image, and in imitation on a CPU (docs/attack.md).
"""


def render_paper(studies: Sequence[Study]) -> str:
    """Write the page.

    Guarantees:
        The same entries and published rows give the same text: no date, no place.
    """
    parts = [_intro(studies), "## Verdicts", _verdicts(studies)]
    measured = [study for study in studies if study.cells or study.others]
    if nothing := [study.track.name for study in studies if study not in measured]:
        parts.append(f"Nothing was measured yet on {', '.join(nothing)}.")
    for number, (title, rule, judge) in enumerate(CLAIMS, 1):
        parts += [f"## {number}. {title}", rule]
        for study in measured:
            parts += _ruling(study, judge(study))
    parts += ["## One recipe better than the paper's", _BETTER]
    for study in measured:
        parts += _better(study, better(study))
    parts += ["## All figures", _FIGURES]
    for study in studies:
        parts += _figures(study)
    return "\n\n".join(parts) + "\n"


_BETTER = (
    "A recipe that is combined, or fine-tuned towards another objective, against all of the paper's as measured here: "
    "it dominates those that are at most as robust on the same images and need at least as many BOPs. Those of the "
    "paper's that have no robustness to lose do not count."
)
_FIGURES = (
    "Clean / **robust** accuracy in per cent (worst case over all attacks) with its 95 % interval, and PGD-20 alone "
    f"where the entry has it. {PARTIAL}: so many images instead of all. Cost: of adversarial fine-tuning, relative to "
    "adversarial training from scratch. The paper: clean / under its PGD-20, adversarially fine-tuned, read off its "
    "Figure 1. – means missing."
)


def _intro(studies: Sequence[Study]) -> str:
    entries = [entry for study in studies for entry in (*study.cells.values(), *study.variants, *study.others)]
    coarse = any(entry.attacker == _COARSE for entry in entries)
    return (_INTRO + _COARSELY if coarse else _INTRO).strip()


def _verdicts(studies: Sequence[Study]) -> str:
    rows = [["track", *(title for title, _, _ in CLAIMS)]]
    rows += [[study.track.name, *(f"**{judge(study).verdict}**" for _, _, judge in CLAIMS)] for study in studies]
    return _table(rows)


def _ruling(study: Study, ruling: Ruling) -> list[str]:
    parts = [f"### {study.track.name}: {ruling.verdict}"]
    parts.append("\n".join(f"- {sentence}" for sentence in ruling.why))
    if ruling.evidence:
        heads = ["compression", "entry", "robust %", "against", "robust %", "difference", "95 %", "p", "images", "cost"]
        rows = [[*heads, "so it is"]]
        rows += [[str(row), *_pair(one), FATES[one.fate]] for row, one in ruling.evidence]
        parts.append(_table(rows, right=(2, 4, 5, 6, 7, 8, 9)))
    return parts


def _pair(one: Pair) -> list[str]:
    decimals = numbers.decimals_for(one.n)
    robust = [f"{100 * entry.verdicts.letters.count('.', 0, one.n) / one.n:.{decimals}f}" for entry in _both(one)]
    low, high = (numbers.points(end, decimals) for end in one.interval)
    links = [_link(entry) for entry in _both(one)]
    return [
        links[0],
        robust[0],
        links[1],
        robust[1],
        numbers.points(one.points, decimals),
        f"{low} … {high}",
        f"{one.p:.2g}",
        f"{one.n:,}",
        _cost(one.ours),
    ]


def _both(one: Pair) -> tuple[Entry, Entry]:
    return one.ours, one.theirs


def _better(study: Study, found: Better | None) -> list[str]:
    heading = f"### {study.track.name}"
    if found is None:
        measured = len(papers_recipes(study))
        others = sum(bool(entry.recipe.steps) for entry in study.others)
        which = f"{measured} robust recipes of the paper and {others} others"
        return [heading, f"None yet: {which} were measured, and no other dominates any of the paper's."]
    count = len(found.dominated)
    total = count + len(found.cheaper) + len(found.stronger)
    verdict = "dominates all" if found.dominates_all else f"dominates {count} of"
    lines = [
        f"{_link(found.entry)} {verdict} {total} of the paper's robust recipes measured here, {found.beyond_chance} of "
        f"them beyond chance: {_accuracy(found.entry)} at {numbers.amount(found.entry.efficiency.bops)} BOPs."
    ]
    if found.stronger:
        lines.append(f"More robust, and no cheaper: {_names(found.stronger)}.")
    if found.cheaper:
        lines.append(f"Cheaper: {_names(found.cheaper)}.")
    heads = [
        "the paper's recipe",
        "parent",
        "robust %",
        "BOPs",
        "BOPs / ours",
        "ours is ahead by",
        "95 %",
        "p",
        "images",
    ]
    rows = [heads, *(_dominated(found.entry, one) for one in found.dominated)]
    return [heading, " ".join(lines), _table(rows, right=(2, 3, 4, 5, 6, 7, 8))]


def _dominated(ours: Entry, one: Pair) -> list[str]:
    decimals = numbers.decimals_for(one.n)
    bops = one.theirs.efficiency.bops
    low, high = (numbers.points(end, decimals) for end in one.interval)
    return [
        _link(one.theirs),
        one.theirs.model,
        f"{100 * one.theirs.verdicts.letters.count('.', 0, one.n) / one.n:.{decimals}f}",
        numbers.amount(bops),
        numbers.ratio(bops / ours.efficiency.bops) if ours.efficiency.bops else numbers.UNKNOWN,
        numbers.points(one.points, decimals),
        f"{low} … {high}",
        f"{one.p:.2g}",
        f"{one.n:,}",
    ]


def _names(pairs: Sequence[Pair]) -> str:
    names = [
        f"{_link(one.theirs)} ({one.theirs.model}, {numbers.points(-one.points, numbers.decimals_for(one.n))} points, "
        f"{numbers.amount(one.theirs.efficiency.bops)} BOPs)"
        for one in pairs
    ]
    return ", ".join(names)


def _figures(study: Study) -> list[str]:
    track = study.track
    parts = [f"### {track.name}", f"{track.about}. {track.dataset} · {track.threat}."]
    if not study.figures:
        parts.append("The paper has no figure at this radius.")
    for model in study.parents:
        missing, grid = len(study.missing(model)), len(FINETUNINGS) * (1 + len(study.levels))
        about = f"Parent **{model}**" + (f", {missing} of the {grid} cells of the paper's grid missing" * bool(missing))
        if missing == grid and not study.figures:
            parts.append(f"{about}.")
            continue
        heads = ["compression", "MACs", "no fine-tuning", "clean fine-tuning", "adversarial fine-tuning", "cost"]
        rows = [[*heads, *(["the paper"] if study.figures else [])]]
        rows += [_row(study, model, compression) for compression in study.rows]
        parts += [f"{about}:", _table(rows, right=(1, 5, 6))]
    if study.left_out:
        parts.append(f"Left out for an alarm: {', '.join(map(_link, study.left_out))}.")
    return parts


def _row(study: Study, model: str, compression: Compression) -> list[str]:
    entries = [study.get(model, compression, finetuning) for finetuning in FINETUNINGS]
    first = next((entry for entry in entries if entry is not None), None)
    tuned, figure = entries[-1], study.figure(model, compression)
    row = ["none" if compression == NOTHING else str(compression)]
    row.append(numbers.amount(first.efficiency.macs) if first else numbers.UNKNOWN)
    row += [numbers.UNKNOWN if entry is None else f"[{_accuracy(entry)}]({_path(entry)})" for entry in entries]
    row.append(_cost(tuned) if tuned else numbers.UNKNOWN)
    if study.figures:
        row.append(f"{figure.clean} / {figure.robust}" if figure else numbers.UNKNOWN)
    return row


def _accuracy(entry: Entry) -> str:
    verdicts = entry.verdicts
    decimals = numbers.decimals_for(len(verdicts.letters))
    low, high = (f"{100 * end:.{decimals}f}" for end in verdicts.robust.interval)
    text = (
        f"{numbers.percent(verdicts.clean, decimals)} / **{numbers.percent(verdicts.robust, decimals)}** ({low}–{high})"
    )
    if entry.pgd20:
        text += f", PGD-20 {numbers.percent(entry.pgd20, decimals)}"
    return f"{text} {PARTIAL}{len(verdicts.letters):,}" if entry.partial else text


def _cost(entry: Entry) -> str:
    cost = entry.effort.relative_cost
    return numbers.UNKNOWN if cost is None else numbers.ratio(cost)


def _link(entry: Entry) -> str:
    return f"[{label(entry)}]({_path(entry)})"


def _path(entry: Entry) -> str:
    return quote(entry.path(Path()).as_posix())


def _table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    heads, *body = rows
    rule = ["---:" if i in right else "---" for i in range(len(heads))]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (heads, rule, *body)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
