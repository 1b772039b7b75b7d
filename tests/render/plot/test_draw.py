"""Figures as files."""

import sys

import pytest
from factories import make_rows

from bench.errors import MissingError, UsageError
from bench.render.plot.draw import write_figure
from bench.render.plot.figures import figure


@pytest.fixture
def panels():
    return figure("pareto", {"made-up-v1": make_rows()})


@pytest.mark.parametrize("kind", ["pareto", "compression"])
def test_svg_holds_real_text_and_is_the_same_each_time(tmp_path, kind):
    panels = figure(kind, {"made-up-v1": make_rows()})
    once, again = (write_figure(panels, tmp_path / name).read_text() for name in ("a.svg", "b.svg"))
    assert once == again
    assert ">made-up-v1" in once
    for panel in panels:
        assert f">{panel.x_label}<" in once
        for line in panel.lines:
            assert f">{line.name}<" in once


def test_png_is_sharp_enough_for_print(tmp_path, panels):
    data = write_figure(panels, tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1020  # 3.4 inches at 300 dots


def test_another_ending_is_a_mistake(tmp_path, panels):
    with pytest.raises(UsageError, match=r"ends in \.svg or \.png"):
        write_figure(panels, tmp_path / "a.pdf")


def test_without_matplotlib_the_way_out_is_named(tmp_path, panels, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"pip install 'bench\[plot\]'"):
        write_figure(panels, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
