"""Which attacks a track's suite runs, in which order, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from bench.verdicts import AUTOATTACK


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long each attack searches: AutoAttack standard (Croce & Hein, 2020).

    Attributes:
        iterations: of APGD, and of FAB, per target class.
        targets: classes that APGD-T and FAB-T aim at, the likeliest first; fewer where there are fewer.
        queries: of Square.
    """

    iterations: int = 100
    targets: int = 9
    queries: int = 5000


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
        "square": Passes(forward=5003, backward=0),
    }[attack]
