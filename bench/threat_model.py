"""What the adversary may do: a norm, a radius, and the box [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["Linf", "L2"]

# Rounding of float32 arithmetic in `origin + delta`; far below one grey level (1/255 = 3.9e-3).
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """The set of images an adversary may present in place of `origin`.

    Attributes:
        norm: "Linf" or "L2", over all pixels and channels of one image.
        eps: radius in units of [0, 1], exact.
    """

    norm: Norm
    eps: Fraction

    def __post_init__(self) -> None:
        if self.norm not in ("Linf", "L2"):
            raise UsageError(f"Expected norm 'Linf' or 'L2', got '{self.norm}'.")
        if not self.eps > 0 or not 1e-30 < self.eps < 10**30:  # what float32 can tell from 0 and infinity
            small = abs(self.eps.numerator) < 10**30 and self.eps.denominator < 10**30
            shown = f"'{self.eps}'" if small else "a number of very many digits"
            raise UsageError(f"Expected eps > 0 in units of [0, 1] (for example '8/255'), got {shown}.")

    def __str__(self) -> str:
        return f"{self.norm} {self.eps_text}"

    @property
    def eps_text(self) -> str:
        """Eps as people write it: a short decimal where there is one (`0.1`), else in grey levels (`8/255`)."""
        short = f"{float(self.eps):.3g}"
        if Fraction(short) == self.eps or (self.eps * 255).denominator != 1:
            return short
        return f"{self.eps * 255}/255"

    def project(self, images: Tensor, origin: Tensor) -> Tensor:
        """Return the nearest allowed images, up to rounding: first into the ball, then into the box.

        Args:
            images: (N, C, H, W); values that are not finite are replaced by the origin's.
            origin: (N, C, H, W) in [0, 1].
        """
        delta = images - origin
        delta = delta.where(delta.isfinite(), delta.new_zeros(()))
        if self.norm == "Linf":
            delta = delta.clamp(-float(self.eps), float(self.eps))
        else:
            delta = delta * (float(self.eps) / self.size(delta).clamp_min(1e-12)).clamp_max(1.0)
        return (origin + delta).clamp(0.0, 1.0)

    def contains(self, images: Tensor, origin: Tensor) -> Tensor:
        """Say for each image whether it is allowed, to within `TOLERANCE`, relative where eps exceeds 1; (N,), bool."""
        size = self.size((images - origin).double()).flatten()  # float32 adds up a large image's squares too coarsely
        in_ball = size <= float(self.eps) + TOLERANCE * max(1.0, float(self.eps))
        flat = images.flatten(1)
        in_box = (flat >= 0.0).all(1) & (flat <= 1.0).all(1)
        return in_ball & in_box

    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N, 1, 1, 1)."""
        flat = delta.flatten(1)
        norms = flat.amax(1).maximum(-flat.amin(1)) if self.norm == "Linf" else flat.square().sum(1).sqrt()
        return norms.view(-1, *[1] * (delta.dim() - 1))


def parse_eps(text: str) -> Fraction:
    """Read `"8/255"` or `"0.1"` exactly.

    Raises:
        UsageError: not a number.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"Expected eps as a string such as '8/255' or '0.1', got '{text}'.") from error
