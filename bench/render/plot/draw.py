"""Figures drawn by matplotlib: SVG with real text, PNG for slides."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.errors import MissingError, UsageError
from bench.files import atomic
from bench.render.plot.figures import Line, Panel, Point
from bench.render.plot.names import Box, Name, Place, place, together

# Okabe and Ito (2008): told apart with any common kind of colour vision; markers tell them apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8c8c8c")
_MARKERS = ("D", "o", "s", "^", "v", "P", "X", "h")
_STYLE = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: a paper's font, and a search, can reach it
    "svg.hashsalt": "bench",  # the same figure gives the same bytes
    "savefig.dpi": 300,
}
_COLUMN_IN = 3.4
"""Width of one panel: a column of a two-column paper."""
_PANEL_IN = 2.4
"""Height of one panel, without the lines that its title has more than one."""
_LINE_IN = 0.14
_NAME_PT = 6
_NAME_LETTERS = 20
"""A longer name takes a line for each of its parts: a narrow text finds a place more easily."""
_MOST_NAMES = 50
"""So many names are given places, those of the front and then the most robust: a panel holds fewer."""
_LETTERS = 50
"""So many letters of a title fit across a panel."""
_ASIDE_PT, _FARTHEST_PT = 2.2, 8.0
"""How far lines are moved aside from each other, and the outermost from where they belong."""


def write_figure(panels: Sequence[Panel], path: Path) -> Path:
    """Draw panels side by side, as SVG or PNG by the path's ending.

    Raises:
        UsageError: another ending.
        MissingError: matplotlib is not installed, or the place cannot be written.
    """
    form = path.suffix.removeprefix(".")
    if form not in ("svg", "png"):
        raise UsageError(f"Expected a file that ends in .svg or .png, got '{path}'.")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError("matplotlib is not installed: pip install 'bench[plot]'.") from error
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = -(-len(panels) // across)
    drawing = BytesIO()
    with rc_context(_STYLE):
        height = down * max(map(_height, panels))
        figure = Figure(figsize=(_COLUMN_IN * across, height), layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        handles = [_draw(panel, ax) for panel, ax in zip(panels, axes, strict=False)]
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        figure.set_figheight(height + _legend(figure, panels, handles))
        figure.draw_without_rendering()
        for panel, ax in zip(panels, axes, strict=False):
            if panel.named:
                _name_points(panel, ax)
        figure.savefig(drawing, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    with atomic(path) as temporary:
        temporary.write_bytes(drawing.getvalue())
    return path


def _height(panel: Panel) -> float:
    """Return the height of a panel in inches: many names need room."""
    names = sum(len(line.points) for line in panel.lines) if panel.named else 0
    return _PANEL_IN + _LINE_IN * _title(panel).count("\n") + min(1.4, 0.04 * max(0, names - 10))


def _title(panel: Panel) -> str:
    return "\n".join([fill(panel.title, _LETTERS), *filter(None, [panel.note])])


def _draw(panel: Panel, ax: Any) -> list[Any]:
    """Draw a panel; return what stands for each of its lines in a legend."""
    if panel.log_x:
        ax.set_xscale("log", base=2 if panel.reverse_x else 10)
    handles = [_draw_line(line, ax, aside) for line, aside in zip(panel.lines, _asides(panel), strict=True)]
    if panel.ticks:
        ax.set_xticks([at for at, _ in panel.ticks], [text for _, text in panel.ticks])
        ax.minorticks_off()
    ax.set_xlim(*_reach(panel))
    for line in panel.lines:
        if line.joined == "steps":  # whoever can pay more than the last point can have it, too
            last = line.points[-1]
            ax.hlines(last.y, last.x, ax.get_xlim()[1], color=_look(line)[0], linewidth=1.0)
    tops = [point.high for line in panel.lines for point in line.points]
    top = min(100, 10 * (max(tops) // 10 + 1))
    ax.set_ylim(-0.02 * top, 1.02 * top)  # markers at 0 and at 100 % stay whole
    ax.set_xlabel(fill(panel.x_label, _LETTERS))
    ax.set_ylabel(panel.y_label)
    ax.set_title(_title(panel))
    ax.grid(axis="y", color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)
    return handles


def _asides(panel: Panel) -> list[float]:
    """Return by how many points each line is moved aside: where two meet they would hide each other's intervals.

    Clean and robust accuracy of one recipe stand above each other.
    """
    styles = list(dict.fromkeys(line.style for line in panel.lines))
    if panel.named or len(styles) == 1:
        return [0.0] * len(panel.lines)
    apart = min(_ASIDE_PT, 2 * _FARTHEST_PT / (len(styles) - 1))
    return [apart * (styles.index(line.style) - (len(styles) - 1) / 2) for line in panel.lines]


def _look(line: Line) -> tuple[str, str]:
    """Return colour and marker: the second time that a colour comes, it has another marker."""
    rounds = line.style // len(_COLOURS) if line.style > 0 else 0
    return _COLOURS[line.style % len(_COLOURS)], _MARKERS[(line.style + rounds) % len(_MARKERS)]


def _reach(panel: Panel) -> tuple[float, float]:
    """Return the ends of x: a little more than the points need."""
    xs = [point.x for line in panel.lines for point in line.points]
    if panel.log_x:
        air = max(1.2, (max(xs) / min(xs)) ** 0.08)
        low, high = min(xs) / air, max(xs) * air
    else:
        air = 0.08 * (max(xs) - min(xs)) or 1.0
        low, high = min(xs) - air, max(xs) + air
    return (high, low) if panel.reverse_x else (low, high)


def _draw_line(line: Line, ax: Any, aside: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    xs, ys = [point.x for point in line.points], [point.y for point in line.points]
    colour, marker = _look(line)
    return ax.errorbar(
        xs,
        ys,
        yerr=[[point.y - point.low for point in line.points], [point.high - point.y for point in line.points]],
        color=colour,
        marker=marker,
        markersize=3.5,
        markerfacecolor="white" if line.dashed else colour,
        linestyle="none"
        if not line.joined or (len(xs) == 1 and line.joined != "steps")
        else "--"
        if line.dashed
        else "-",
        drawstyle="steps-post" if line.joined == "steps" else "default",
        linewidth=1.0,
        elinewidth=0.7,
        capsize=1.5,
        transform=ax.transData + ScaledTranslation(aside / 72, 0, ax.figure.dpi_scale_trans),
    )


def _legend(figure: Any, panels: Sequence[Panel], handles: Sequence[Sequence[Any]]) -> float:
    """Put one legend below all panels: they share their styles. Return its height in inches."""
    from matplotlib.lines import Line2D

    found: dict[str, tuple[int, Any]] = {}
    for panel, drawn in zip(panels, handles, strict=True):
        for line, handle in zip(panel.lines, drawn, strict=True):
            # A recipe may be one point in this panel, and a line in that.
            if not line.dashed and len(line.points) > found.get(line.name, (0, None))[0]:
                found[line.name] = (len(line.points), handle)
    styles = {line.name: line.style for panel in panels for line in panel.lines}
    entries = {fill(name, _LETTERS): found[name][1] for name in sorted(found, key=styles.__getitem__)}
    if any(line.dashed for panel in panels for line in panel.lines):
        grey: dict[str, Any] = {"color": "#666666", "linewidth": 1.0, "marker": "o", "markersize": 3.5}
        entries["robust accuracy"] = Line2D([], [], **grey)
        entries["clean accuracy"] = Line2D([], [], linestyle="--", markerfacecolor="white", **grey)
    columns = min(len(entries), 6)
    while True:
        legend = figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=2.4,
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            return float(box.height / figure.dpi)
        legend.remove()
        columns -= 1


def _name_points(panel: Panel, ax: Any) -> None:
    """Write each point's name beside it, those of the front first, or at the end of a thin line; or not at all."""
    scale = 72 / ax.figure.dpi
    ranked = sorted(panel.lines, key=lambda line: not line.joined)
    points = [point for line in ranked for point in sorted(line.points, key=lambda point: -point.y)]
    spots = [tuple(scale * ax.transData.transform((point.x, point.y))) for point in points]
    front = [bool(line.joined) for line in ranked for _ in line.points]
    groups = together(spots)[:_MOST_NAMES]
    # A marker of the front lies above the others: where it hides some, the name is its own.
    texts = [_shared([points[i].name for i in group if front[i] == front[group[0]]]) for group in groups]
    names = []
    for text, group in zip(texts, groups, strict=True):
        tried = ax.text(0, 0, text, fontsize=_NAME_PT)
        box = tried.get_window_extent()
        tried.remove()
        (x, y), first = spots[group[0]], group[0]
        names.append(Name(x=x, y=y, width=scale * box.width, height=scale * box.height, front=front[first]))
    frame = Box(*(scale * end for end in ax.bbox.extents)).grown(-1)
    places = place(names, frame, spots, _drawn_lines(panel, ax, scale))
    for text, group, name, found in zip(texts, groups, names, places, strict=True):
        if found is not None:
            _write(text, points[group[0]], name, found, ax)


def _shared(names: Sequence[str]) -> str:
    """Write the names of points that hide each other as one."""
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else list(names)
    text = ", ".join(shown)
    if len(text) <= _NAME_LETTERS:
        return text
    return text.replace(" (", "\n(") if len(shown) == 1 else ",\n".join(shown)


def _drawn_lines(panel: Panel, ax: Any, scale: float) -> list[Box]:
    """Return the interval bars and the front's steps as boxes of points."""
    end = max(ax.get_xlim())
    boxes = []
    for line in panel.lines:
        corners = [(point.x, point.low, point.x, point.high, 1.5) for point in line.points]
        if line.joined == "steps":
            for here, there in pairwise(line.points):
                corners.append((here.x, here.y, there.x, here.y, 0.5))
                corners.append((there.x, min(here.y, there.y), there.x, max(here.y, there.y), 0.5))
            corners.append((line.points[-1].x, line.points[-1].y, end, line.points[-1].y, 0.5))
        for x0, y0, x1, y1, half in corners:
            low, high = scale * ax.transData.transform((x0, y0)), scale * ax.transData.transform((x1, y1))
            boxes.append(Box(*low, *high).grown(half))
    return boxes


def _write(text: str, point: Point, name: Name, found: Place, ax: Any) -> None:
    box = found.box
    ax.annotate(
        text,
        (point.x, point.y),
        xytext=((box.x0 if found.right else box.x1) - name.x, (box.y0 + box.y1) / 2 - name.y),
        textcoords="offset points",
        horizontalalignment="left" if found.right else "right",
        verticalalignment="center",
        fontsize=_NAME_PT,
        arrowprops=None
        if found.leader is None
        else {
            "arrowstyle": "-",
            "color": "#333333",
            "linewidth": 0.4,
            "shrinkA": 1.5,
            "shrinkB": 0,
            "patchA": None,
            "relpos": (0 if found.right else 1, 0.5),
            "zorder": 4,  # above the markers: of two that overlap, it says which
        },
    ).set_in_layout(False)
