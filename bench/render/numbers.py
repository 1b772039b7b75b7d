"""Figures as people read them: one unit and one number of decimals per column, so that magnitudes compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from bench.verdicts import Proportion

MINUS, UNKNOWN = "\u2212", "–"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def decimals_for(n: int) -> int:
    """Return how many decimals a percentage of `n` images deserves."""
    return 2 if n >= 1000 else 1


def percent(proportion: Proportion, decimals: int) -> str:
    """Write a proportion without its sign: `58.3`."""
    return f"{100 * proportion.rate:.{decimals}f}"


def share(value: float) -> str:
    """Write a share as a percentage: `90.0 %`."""
    return f"{100 * value:.1f} %"


@lru_cache(maxsize=4096)  # large boards repeat themselves
def half_width(proportion: Proportion, decimals: int) -> str:
    """Write half the width of the 95 % interval: `±4.8`. The interval itself is not quite symmetric."""
    low, high = proportion.interval
    return f"±{50 * (high - low):.{decimals}f}"


def points(delta: float | None, decimals: int) -> str:
    """Write a difference in percentage points: `+2.3`, `−1.0`."""
    if delta is None:
        return UNKNOWN
    text = f"{abs(delta):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if delta > 0 else MINUS
    return sign + text


def scaled(values: Sequence[int], *, unit: str = "") -> tuple[str, list[str]]:
    """Write the counts of one column in the unit that suits the largest: `("G", ["3.62", "0.23"])`.

    Args:
        values: counts, none negative.
        unit: what is counted, after the prefix: "B" gives "kB".
    """
    largest = max(values, default=0)
    factor, prefix = next(((factor, prefix) for factor, prefix in _SCALES if largest >= factor), (1.0, ""))
    return prefix + unit, level([value / factor for value in values], whole=factor == 1.0)


def level(values: Sequence[float], *, whole: bool = False, most: int = 4) -> list[str]:
    """Write numbers with as many decimals as the smallest needs for two significant digits, `most` at most."""
    smallest = min((value for value in values if value > 0), default=1.0)
    decimals = 0 if whole else min(most, max(0, 1 - math.floor(math.log10(smallest))))
    return [f"{value:,.{decimals}f}" for value in values]


def amount(value: int, *, unit: str = "") -> str:
    """Write one count with its unit and three digits: `3.62 G`, `31.0 kB`, `212`."""
    # From 999,500 on, three digits round to the next unit.
    factor, prefix = next(((factor, prefix) for factor, prefix in _SCALES if value >= 0.9995 * factor), (1.0, ""))
    number = value / factor
    digits = 0 if factor == 1.0 or number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {prefix}{unit}".rstrip()


def ratio(value: float) -> str:
    """Write a factor with two significant digits: `×0.062`, `×1.0`, `×16`."""
    decimals = 0 if value <= 0 else max(0, 1 - math.floor(math.log10(value)))
    return f"×{value:.{decimals}f}"


def milliseconds(value: float) -> str:
    """Write a time with three significant digits: `0.021 ms`, `3.41 ms`."""
    digits = 2 if value <= 0 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{digits}f} ms"


def duration(seconds: float) -> str:
    """Write a time for people: `0.4 s`, `42 s`, `3 min 05 s`, `1 h 12 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
