"""The judge once more, without any attack: clean images and stored adversarial ones against an entry's letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.attack.alarms import ROUNDING
from bench.attack.engine import TOGETHER, Trial
from bench.attack.judge import correct, show
from bench.attack.search import lead
from bench.entry import Entry
from bench.model import Classifier
from bench.run.evidence import Deciding, read_evidence
from bench.scrutiny import Finding
from bench.verdicts import MISCLASSIFIED, STANDING


def rejudge_clean(trial: Trial, entry: Entry) -> Finding:
    """Ask the deployed model about every clean image: each `x` is to be wrong, and every other right."""
    letters, deployed = entry.verdicts.letters, trial.subject.deployed
    differing: list[int] = []
    close: list[int] = []
    for start in range(0, len(letters), TOGETHER):
        numbers = list(range(start, min(start + TOGETHER, len(letters))))
        images, labels = trial.batch(numbers)
        stated = torch.tensor([letters[number] != MISCLASSIFIED for number in numbers])
        unlike = (correct(deployed, images, labels).cpu() != stated).nonzero().flatten()
        near = _on_the_border(deployed, images, labels)
        differing += [numbers[i] for i in unlike.tolist() if not near[i]]
        close += [numbers[i] for i in unlike.tolist() if near[i]]
    clean = entry.verdicts.clean
    if differing:
        text = f"{len(differing):,} of {len(letters):,} letters disagree with the model: images {_some(differing)}"
        return Finding(name="clean", holds=False, text=text)
    text = f"{clean.count:,} images right and {clean.total - clean.count:,} wrong, each as its letter says"
    return Finding(name="clean", holds=True, text=text + _borderline(close))


def rejudge_adversarial(trial: Trial, entry: Entry, files: Sequence[Path], *, complete: bool) -> Finding:
    """Show twin and deployed model every stored image: allowed it is to be, and to fool one of them.

    Args:
        trial: of the entry's own model.
        entry: whose letters.
        files: of adversarial images.
        complete: whether they are all there are, so that every fallen image must be among them.

    Raises:
        UsageError: a file is not one of adversarial images of this track.
    """
    letters, faults, close = entry.verdicts.letters, dict[str, list[int]](), list[int]()
    covered: set[int] = set()
    for path in files:
        stored = read_evidence(path, trial.examples, trial.threat)
        numbers = stored.numbers.tolist()
        other = [n for n, letter in zip(numbers, stored.letters, strict=True) if letters[n] != letter]
        faults.setdefault("have another letter in the entry", []).extend(other)
        covered |= {*numbers} - {*other}
        for start in range(0, len(numbers), TOGETHER):
            outside, standing, near = _judge_again(trial, stored, slice(start, start + TOGETHER))
            faults.setdefault(f"are outside {trial.threat} or [0, 1]", []).extend(outside)
            faults.setdefault("fool nobody", []).extend(standing)
            close += near
    total = len(letters) - letters.count(STANDING) - letters.count(MISCLASSIFIED)
    if told := [f"{len(found):,} {fault}: {_some(found)}" for fault, found in faults.items() if found]:
        return Finding(name="adversarial", holds=False, text="of the stored images " + "; ".join(told))
    if complete and len(covered) < total:
        text = f"{total:,} images fell by their letters, and there are adversarial versions of {len(covered):,}"
        return Finding(name="adversarial", holds=False, text=text)
    text = (
        f"{len(covered):,} of {total:,} fallen images shown again: each within {trial.threat} and [0, 1], and fooling"
    )
    return Finding(name="adversarial", holds=True, text=text + _borderline(close))


def _judge_again(trial: Trial, stored: Deciding, part: slice) -> tuple[list[int], list[int], list[int]]:
    """Return which images are not allowed, which fool nobody, and which would but for rounding."""
    numbers, images = stored.numbers[part].tolist(), stored.images[part].to(trial.device)
    originals, labels = trial.batch(numbers)
    outside = (~trial.threat.contains(images, originals)).cpu()
    standing = show(trial.subject, images, labels).standing.cpu()
    near = _on_the_border(trial.subject.twin, images, labels) | _on_the_border(trial.subject.deployed, images, labels)
    return tuple(  # type: ignore[return-value]
        [number for number, chosen in zip(numbers, mask.tolist(), strict=True) if chosen]
        for mask in (outside, standing & ~near, standing & near)
    )


@torch.no_grad()
def _on_the_border(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Say for which images the true class is so close to the next that rounding may decide; (N,) bool, on the CPU.

    Kernels of another machine, or another batch, round otherwise, and a quantiser turns that into a whole step.
    """
    logits = classifier(images).double()
    spread = (logits - logits.mean(1, keepdim=True)).norm(dim=1)
    close: Tensor = lead(logits, labels).abs() <= ROUNDING * spread
    return close.cpu()


def _borderline(close: list[int]) -> str:
    return f"; {len(close)} within rounding of it ({_some(close)})" if close else ""


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:5]))
    return shown + ", …" * (len(numbers) > 5)
