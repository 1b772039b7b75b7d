"""Which attacks a track's suite runs, in which order, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from bench.verdicts import AUTOATTACK


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
    """Return an attack's budget for one surviving image (Croce & Hein, 2020, version "standard").

    Raises:
        KeyError: no such attack.
    """
    targets = min(9, n_classes - 1)
    return {
        "apgd-ce": Passes(forward=102, backward=101),
        "apgd-t": Passes(forward=102 * targets + 1, backward=101 * targets),
        # Each of FAB's 100 iterations asks for a gradient, then for the class of the new point.
        "fab-t": Passes(forward=203 * targets + 1, backward=100 * targets),
        "square": Passes(forward=5003, backward=0),
    }[attack]
