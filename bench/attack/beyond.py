"""Attacks the survivors once more with a radius at which nothing honest survives."""

from __future__ import annotations

from dataclasses import replace

from bench.attack.driver import BenchEngine
from bench.attack.engine import Outcome, Trial
from bench.attack.suites import Budget
from bench.progress import silent
from bench.threat_model import ThreatModel
from bench.verdicts import STANDING, Alarm

FARTHER, ITERATIONS = 4, 20
MOST, FEWEST = 32, 4
"""Images asked about; of fewer nothing can be said."""
STILL_STANDING = 0.5


def out_of_reach(trial: Trial, outcome: Outcome) -> tuple[Alarm, ...]:
    """Warn where robustness does not fall as eps grows (Athalye, Carlini & Wagner, 2018): a short form.

    The first images that stand are attacked at four times the radius, by 20 iterations of APGD on rescaled
    cross-entropy. Four times the radius of any track leaves an honest model few of them; masked gradients lead nowhere,
    however far. The verdicts stay as they are, and the few passes are not counted among the attack's.
    """
    standing = [number for number, letter in enumerate(outcome.letters) if letter == STANDING][:MOST]
    if len(standing) < FEWEST:
        return ()
    farther = ThreatModel(norm=trial.threat.norm, eps=FARTHER * trial.threat.eps)
    engine = BenchEngine(budget=Budget(iterations=ITERATIONS))
    parts = engine(replace(trial, threat=farther, album=None), "apgd-scaled", standing, silent)
    left = sum(sum(outcomes.values()) for outcomes, _ in parts)
    if left / len(standing) <= STILL_STANDING:
        return ()
    sentence = f"{left} of {len(standing)} images that stand still do at {farther}, {FARTHER} times the radius"
    return (Alarm(name="robust-beyond-eps", fatal=False, evidence=sentence),)
