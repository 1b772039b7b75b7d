"""What all commands share: the options they have in common, and how they print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Board = Annotated[Path, typer.Option(help="Folder of entries.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV instead of tables.")]


def print_json(thing: Any) -> None:
    """Print a thing as JSON."""
    typer.echo(json.dumps(thing, indent=2, ensure_ascii=False))


def print_csv(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print records as CSV, under a line of column names."""
    from bench.render.plain import as_csv

    typer.echo(as_csv(records, columns), nl=False)


def one_form(*, as_json: bool, as_csv: bool) -> None:
    """Refuse to print two forms at once."""
    if as_json and as_csv:
        raise UsageError("Expected --json or --csv, got both.")


def console(*, stderr: bool = False) -> Console:
    """Return a console; on a pipe it prints plain text."""
    from rich.console import Console

    return Console(stderr=stderr)


def complain(kind: str, sentence: str, *, style: str) -> None:
    """Print one sentence on stderr, whole, after the kind of complaint it is: `error: …`."""
    from rich.markup import escape

    console(stderr=True).print(f"[{style}]{kind}:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def skipped(sentence: str) -> None:
    """Say on stderr why a file or a line is left out."""
    complain("skipped", sentence, style="yellow")
