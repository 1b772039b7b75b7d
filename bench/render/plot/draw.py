"""Figures drawn by matplotlib: SVG with real text, PNG for slides."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.errors import MissingError, UsageError
from bench.files import atomic
from bench.render.plot.figures import Line, Panel

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
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    drawing = BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(_COLUMN_IN * across, 2.6 * down), layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for panel, ax in zip(panels, axes, strict=False):
            _draw(panel, ax)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        _legend(figure, axes[: len(panels)])
        figure.draw_without_rendering()
        for ax in axes[: len(panels)]:
            _clear_names(ax)
        figure.savefig(drawing, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    with atomic(path) as temporary:
        temporary.write_bytes(drawing.getvalue())
    return path


def _draw(panel: Panel, ax: Any) -> None:
    if panel.log_x:
        ax.set_xscale("log", base=2 if panel.reverse_x else 10)
    for i, line in enumerate(panel.lines):
        # Lines that meet at a point would hide each other's intervals.
        aside = 0 if panel.named else 2.2 * (i - (len(panel.lines) - 1) / 2)
        _draw_line(line, ax, aside)
    if panel.named:
        _name_points(panel, ax)
    if panel.ticks:
        ax.set_xticks([at for at, _ in panel.ticks], [text for _, text in panel.ticks])
        ax.minorticks_off()
    ax.set_xlim(*_reach(panel))
    for line in panel.lines:
        if line.joined == "steps":  # whoever can pay more than the last point can have it, too
            last = line.points[-1]
            ax.hlines(last.y, last.x, ax.get_xlim()[1], color=_COLOURS[line.style], linewidth=1.0)
    tops = [point.high for line in panel.lines for point in line.points]
    ax.set_ylim(0, 1.02 * min(100, 10 * (max(tops) // 10 + 1)))  # markers at 100 % stay whole
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    ax.set_title(panel.title)
    ax.grid(axis="y", color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)


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


def _draw_line(line: Line, ax: Any, aside: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    xs, ys = [point.x for point in line.points], [point.y for point in line.points]
    colour, marker = _COLOURS[line.style % len(_COLOURS)], _MARKERS[line.style % len(_MARKERS)]
    ax.errorbar(
        xs,
        ys,
        yerr=[[point.y - point.low for point in line.points], [point.high - point.y for point in line.points]],
        label=line.name,
        color=colour,
        marker=marker,
        markersize=3.5,
        markerfacecolor="white" if line.dashed else colour,
        linestyle="none" if not line.joined else "--" if line.dashed else "-",
        drawstyle="steps-post" if line.joined == "steps" else "default",
        linewidth=1.0,
        elinewidth=0.7,
        capsize=1.5,
        transform=ax.transData + ScaledTranslation(aside / 72, 0, ax.figure.dpi_scale_trans),
    )


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """Put one legend below all panels: they share their styles."""
    found = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(found) > 1:
        columns = min(len(found), 1 + min(3, len(axes)))
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, handlelength=2.4
        )


def _name_points(panel: Panel, ax: Any) -> None:
    """Write each point's name beside it, those of the front first."""
    for line in sorted(panel.lines, key=lambda line: not line.joined):
        for point in line.points:
            ax.annotate(
                point.name,
                (point.x, point.y),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=6,
                annotation_clip=True,
            )


def _clear_names(ax: Any) -> None:
    """Move names off each other and into the panel; hide those for which there is no room."""
    taken: list[Any] = []
    for text in ax.texts:
        wished = text.xyann[1]
        for side, place in ((side, (x, y)) for side, x in (("left", 4), ("right", -4)) for y in (wished, -5 - wished)):
            text.set_horizontalalignment(side)
            text.xyann = place
            box = text.get_window_extent()
            inside = box.x0 > ax.bbox.x0 and box.x1 < ax.bbox.x1 and box.y0 > ax.bbox.y0
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            text.set_visible(False)
