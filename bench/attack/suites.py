"""Which attacks a track's suite runs, in which order, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from bench.model import Subject
from bench.verdicts import AUTOATTACK


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long each attack searches: AutoAttack standard (Croce & Hein, 2020).

    Attributes:
        iterations: of APGD, and of FAB, per target class.
        targets: classes that APGD-T and FAB-T aim at, the likeliest first; fewer where there are fewer.
        queries: of Square.
        deployed_queries: of Square on the deployed model, which may well run on a slower machine than its twin.
    """

    iterations: int = 100
    targets: int = 9
    queries: int = 5000
    deployed_queries: int = 1000


STANDARD = Budget()


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Forward and backward passes an attack spends on an image that survives it."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Passes of either kind."""
        return self.forward + self.backward


SUITES: dict[str, tuple[str, ...]] = {"standard": AUTOATTACK}
SQUARE_AGAIN = tuple(f"square-{run}" for run in range(2, 6))
"""Further runs of Square with other random squares, on a subject of whose images the first brought down too many."""
WARNS, LATE = 0.01, 2
"""An attack that comes after every gradient of the twin should find next to nothing: not more than this share of the
test images, AutoAttack's own sign of masked gradients for Square; or so many, for no attack finds all there is."""
FOREIGN = ("transfer", "surrogate")
"""Attacks that ask another network than the subject; the judge is shown every point that they try."""


def further(subject: Subject) -> tuple[str, ...]:
    """Return what a compressed subject faces after its track's suite, each attack for a blind spot of the suite.

    transfer: APGD-CE on the parent, whose gradients no compression has touched; for any subject that has a parent.
    surrogate: APGD-CE on the twin with unrounded activations: neither rounding nor clipping blocks a gradient.
    apgd-scaled: APGD-CE on logits divided by the clean image's margin: no softmax saturates (after Yu & Xu, CVPR 2023).
    square-deployed: Square's queries put to the deployed model itself, which may be weaker than its twin.
    """
    attacks = ["transfer"] if subject.parent is not subject.twin else []
    attacks += ["surrogate", "apgd-scaled"] if subject.surrogate is not None else []
    attacks += ["square-deployed"] if subject.deployed is not subject.twin else []
    return tuple(attacks)


def too_late(fallen: int, total: int) -> bool:
    """Whether an attack that comes after every gradient of the twin brought down more images than it should."""
    return fallen > LATE and fallen / total > WARNS


def passes(attack: str, n_classes: int) -> Passes:
    """Return an attack's budget for one surviving image, an upper bound for both engines.

    Raises:
        KeyError: no such attack.
    """
    targets = min(9, n_classes - 1)
    return {
        "apgd-ce": Passes(forward=102, backward=101),
        "apgd-t": Passes(forward=102 * targets + 1, backward=101 * targets),
        # Each of FAB's 100 iterations asks for a gradient, then for the class of the new point; every other time the
        # bench engine may have asked for a gradient in vain.
        "fab-t": Passes(forward=203 * targets + 1, backward=151 * targets),
        **dict.fromkeys(("square", *SQUARE_AGAIN), Passes(forward=5003, backward=0)),
        "apgd-scaled": Passes(forward=102, backward=101),
        # The judge is shown each of the 102 points and the strongest once more.
        "transfer": Passes(forward=205, backward=101),
        "surrogate": Passes(forward=205, backward=101),
        "square-deployed": Passes(forward=1003, backward=0),
    }[attack]
