import subprocess
import sys

import pytest

from bench.render import numbers
from bench.verdicts import Proportion


def test_percentages_and_their_intervals() -> None:
    half = Proportion(count=200, total=400)
    assert numbers.percent(half, 1) == "50.0"
    assert numbers.half_width(half, 1) == "±4.9"


@pytest.mark.parametrize(("delta", "text"), [(None, "–"), (2.25, "+2.2"), (-4.0, "−4.0"), (0.0, "0.0"), (-0.04, "0.0")])
def test_points(delta: float | None, text: str) -> None:
    assert numbers.points(delta, 1) == text


def test_a_column_has_one_unit_and_one_number_of_decimals() -> None:
    assert numbers.scaled([3_696_640_000, 57_800_000]) == ("G", ["3.697", "0.058"])
    assert numbers.scaled([31_000, 118_432], unit="B") == ("kB", ["31", "118"])
    assert numbers.scaled([12, 0]) == ("", ["12", "0"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(212, "212"), (31_000, "31.0 k"), (3_610_000, "3.61 M"), (118_432, "118 k"), (999_999, "1.00 M")],
)
def test_amount(value: int, text: str) -> None:
    assert numbers.amount(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.0, "×1.0"), (0.0625, "×0.062"), (16.0, "×16"), (0.0, "×0")])
def test_ratio(value: float, text: str) -> None:
    assert numbers.ratio(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.99, "10 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (4350, "1 h 12 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


def test_rendering_needs_no_torch() -> None:
    modules = "terminal, card, progress, markdown, table"
    code = f"import sys; from bench.render import {modules}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
