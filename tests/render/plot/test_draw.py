"""Figures as files."""

import sys
from dataclasses import replace

import pytest
from factories import make_rows

from bench.errors import MissingError, UsageError
from bench.render.plot.draw import _asides, write_figure
from bench.render.plot.figures import Line, Panel, Point, figure


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


def height(path):
    return int.from_bytes(path.read_bytes()[20:24], "big") / 300


def crowded(lines, name="quant8-advft+123456"):
    points = [Point(name="", x=x, y=50.0, low=45.0, high=55.0) for x in (0.05, 0.1)]
    made = tuple(Line(name=f"{name}{i}", points=tuple(points), style=i) for i in range(lines))
    return Panel(title="made up", x_label="eps", lines=made, ticks=((0.05, "0.05"), (0.1, "0.1")))


def test_a_long_legend_makes_the_figure_higher_and_no_panel_lower(tmp_path):
    few, many = (height(write_figure([crowded(n)], tmp_path / f"{n}.png")) for n in (2, 20))
    assert many > few + 0.9


def test_lines_are_moved_aside_by_little_however_many(tmp_path):
    for lines in (1, 2, 6, 30):
        asides = _asides(crowded(lines))
        assert max(map(abs, asides)) <= 8
        assert len(set(asides)) == lines
        assert sum(asides) == pytest.approx(0)


def test_clean_and_robust_accuracy_stand_above_each_other_and_are_named_once(tmp_path):
    (panel,) = figure("compression", {"made-up-v1": make_rows()})[:1]
    asides = dict(zip(((line.name, line.dashed) for line in panel.lines), _asides(panel), strict=True))
    assert all(asides[name, True] == asides[name, False] for name, _ in asides)
    text = write_figure([panel], tmp_path / "a.svg").read_text()
    assert text.count(">clean accuracy<") == text.count(f">{panel.lines[0].name}<") == 1


def test_every_point_of_the_front_is_named_once(tmp_path, panels):
    text = write_figure(panels, tmp_path / "a.svg").read_text()
    front = next(line for line in panels[0].lines if line.joined)
    assert all(text.count(f">{point.name}<") == 1 for point in front.points)


def test_what_is_not_shown_stands_below_the_title(tmp_path):
    panel = replace(crowded(1), note="3 less robust recipes not shown")
    assert ">3 less robust recipes not shown<" in write_figure([panel], tmp_path / "a.svg").read_text()


def test_a_single_line_is_named(tmp_path):
    assert ">alone0<" in write_figure([crowded(1, "alone")], tmp_path / "a.svg").read_text()


def test_another_ending_is_a_mistake(tmp_path, panels):
    with pytest.raises(UsageError, match=r"ends in \.svg or \.png"):
        write_figure(panels, tmp_path / "a.pdf")


def test_without_matplotlib_the_way_out_is_named(tmp_path, panels, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"pip install 'bench\[plot\]'"):
        write_figure(panels, tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
