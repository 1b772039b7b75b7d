"""What checks of an entry found, and what became of a challenger's images: a line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from bench.render.layout import pairs
from bench.scrutiny import Finding

_MARKS = {True: Text("✓", style="green"), False: Text("✗", style="bold red"), None: Text("–", style="yellow")}
_MOST = 8
"""Numbers of images on a line."""
_NAME = len("✓ adversarial")
"""Cells that the name of a check takes; one that needs more, a step's own, moves its text."""


def print_findings(title: str, findings: Iterable[Finding], console: Console) -> list[Finding]:
    """Print ✓ for what holds, ✗ for what does not, – for what could not be checked, as it comes; return them all."""
    console.print(Text(title, style="bold"))
    found = []
    for one in findings:
        found.append(one)
        line = (Text.assemble(_MARKS[one.holds], " ", one.name), _shaded(one))
        console.print(pairs([line], width=_NAME), highlight=False)
    return found


def _shaded(finding: Finding) -> Text:
    return Text(finding.text, style={True: "dim", False: "red", None: "yellow"}[finding.holds])


def print_fates(title: str, fates: Mapping[str, Sequence[int]], console: Console) -> None:
    """Print how many images met each fate, and which."""
    console.print(Text(title, style="bold"))
    lines = []
    for fate, numbers in fates.items():
        if numbers:
            shown = ", ".join(map(str, numbers[:_MOST])) + ", …" * (len(numbers) > _MOST)
            lines.append((Text(f"{len(numbers):,} {fate}"), Text(f"image {shown}", style="dim")))
    console.print(pairs(lines), highlight=False)
