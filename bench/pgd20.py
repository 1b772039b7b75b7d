"""PGD-20 beside the suite: the attack that papers before AutoAttack stop at, and many since."""

from __future__ import annotations

import torch

from bench.attack.capacity import Capacity, in_parts
from bench.attack.engine import TOGETHER, Outcome, Trial
from bench.attack.judge import judge
from bench.finetune.pgd import pgd
from bench.verdicts import STANDING, Alarm

STEPS, STEP_RATIO = 20, 0.1
"""Of Thorsteinsson et al., 2024 (arXiv 2403.09441): steps of a tenth of eps, from the image itself."""


def pgd20(trial: Trial) -> list[bool]:
    """Attack every image by PGD-20 (Madry et al., 2018) through the twin; say which stand, as both networks judge."""
    size, capacity = STEP_RATIO * float(trial.threat.eps), Capacity()

    def ask(part: slice) -> tuple[torch.Tensor]:
        images, labels = trial.batch(list(range(part.start, part.stop)))
        moved = pgd(trial.subject.twin, images, labels, trial.threat, steps=STEPS, step_size=size, generator=None)
        return (judge(trial.subject, moved, images, labels, trial.threat, capacity=capacity).standing.cpu(),)

    (standing,) = in_parts(len(trial.examples), ask, capacity, most=TOGETHER)
    return [bool(stood) for stood in standing]


def beats_the_suite(standing: list[bool], outcome: Outcome) -> tuple[Alarm, ...]:
    """Warn where an image falls to PGD-20 that stood the whole suite.

    The verdicts stay as they are: no letter depends on an attack that is only there to be compared with.
    """
    missed = sum(letter == STANDING and not stood for letter, stood in zip(outcome.letters, standing, strict=True))
    if not missed:
        return ()
    sentence = f"{missed} of the images that stood the whole suite fall to PGD-20"
    return (Alarm(name="pgd-20-beats-suite", fatal=False, evidence=sentence),)
