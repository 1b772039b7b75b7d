"""PGD-20 beside the suite: the attack that papers before AutoAttack stop at, and many since."""

from __future__ import annotations

import torch

from bench.attack.engine import TOGETHER, Outcome, Trial
from bench.attack.judge import judge
from bench.finetune.pgd import pgd
from bench.verdicts import STANDING, Alarm, Proportion

STEPS, STEP_RATIO = 20, 0.1
"""Of Thorsteinsson et al., 2024 (arXiv 2403.09441): steps of a tenth of eps, from the image itself."""


def pgd20(trial: Trial, outcome: Outcome) -> tuple[Proportion, tuple[Alarm, ...]]:
    """Attack every image by PGD-20 (Madry et al., 2018) through the twin, and have both networks judge.

    Returns:
        How many images stand, and a warning where an image falls that stood the whole suite. The verdicts stay as they
        are: no letter depends on an attack that is only there to be compared with.
    """
    standing = torch.cat([_standing(trial, list(part)) for part in _parts(len(trial.examples))]).tolist()
    proportion = Proportion(count=sum(standing), total=len(standing))
    missed = sum(letter == STANDING and not stood for letter, stood in zip(outcome.letters, standing, strict=True))
    if not missed:
        return proportion, ()
    sentence = f"{missed} of the images that stood the whole suite fall to PGD-20"
    return proportion, (Alarm(name="pgd-20-beats-suite", fatal=False, evidence=sentence),)


def _parts(n: int) -> list[range]:
    return [range(start, min(start + TOGETHER, n)) for start in range(0, n, TOGETHER)]


def _standing(trial: Trial, part: list[int]) -> torch.Tensor:
    images, labels = trial.batch(part)
    size = STEP_RATIO * float(trial.threat.eps)
    moved = pgd(trial.subject.twin, images, labels, trial.threat, steps=STEPS, step_size=size, generator=None)
    return judge(trial.subject, moved, images, labels, trial.threat).standing.cpu()
