"""PGD-20 after the suite: the attack that papers before AutoAttack stop at, and many since."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.attack.capacity import Capacity, in_parts
from bench.attack.engine import TOGETHER, Outcome, Trial
from bench.attack.judge import judge
from bench.finetune.pgd import pgd
from bench.verdicts import LETTERS, STANDING, Alarm

NAME = "pgd-20"
STEPS, STEP_RATIO = 20, 0.1
"""Of Thorsteinsson et al., 2024 (arXiv 2403.09441): steps of a tenth of eps, from the image itself."""


def pgd20(trial: Trial) -> list[bool]:
    """Attack every image by PGD-20 (Madry et al., 2018) through the twin; say which stand, as both networks judge."""
    size, capacity = STEP_RATIO * float(trial.threat.eps), Capacity()

    def ask(part: slice) -> tuple[torch.Tensor]:
        numbers = torch.arange(part.start, part.stop)
        images, labels = trial.batch(numbers.tolist())
        moved = pgd(trial.subject.twin, images, labels, trial.threat, steps=STEPS, step_size=size, generator=None)
        judged = judge(trial.subject, moved, images, labels, trial.threat, capacity=capacity)
        standing = judged.standing.cpu()
        if trial.album is not None:
            trial.album.take(numbers[~standing], judged.images.cpu()[~standing])
        return (standing,)

    (standing,) = in_parts(len(trial.examples), ask, capacity, most=TOGETHER)
    if trial.album is not None:
        trial.album.save(NAME)
    return [bool(stood) for stood in standing]


def after_pgd20(outcome: Outcome, standing: list[bool]) -> Outcome:
    """Return the outcome with PGD-20 as its last attack: what stood the whole suite and falls to it has its letter."""
    letter, pairs = LETTERS[len(outcome.attacks)], zip(outcome.letters, standing, strict=True)
    letters = "".join(letter if old == STANDING and not stood else old for old, stood in pairs)
    return replace(outcome, attacks=(*outcome.attacks, NAME), letters=letters)


def beats_the_suite(outcome: Outcome) -> tuple[Alarm, ...]:
    """Warn where an image stood the whole suite and fell to PGD-20, which comes last."""
    missed = outcome.letters.count(LETTERS[len(outcome.attacks) - 1])
    if not missed:
        return ()
    sentence = f"{missed} of the images that stood the whole suite fell to PGD-20"
    return (Alarm(name="pgd-20-beats-suite", fatal=False, evidence=sentence),)
