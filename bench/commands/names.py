"""`bench list` and `bench show`: what there is, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.output import Board, Csv, Json, console, one_form, print_csv, print_json, skipped
from bench.errors import UsageError


def list_(
    what: Annotated[
        str, typer.Argument(metavar="KIND", help="recipes, tracks, models, datasets, steps, entries or published")
    ],
    dataset: Annotated[str, typer.Option(help="Published rows of this data set.")] = "",
    eps: Annotated[str, typer.Option(help="Published rows at this radius: 8/255, 0.031.")] = "",
    norm: Annotated[str, typer.Option(help="Published rows in this norm: Linf, L2.")] = "",
    architecture: Annotated[str, typer.Option(help="Published rows of this network, or of a family.")] = "",
    compression: Annotated[str, typer.Option(help="Published rows so compressed: none, structured, …")] = "",
    attack: Annotated[str, typer.Option(help="Published rows under this attack: AutoAttack, PGD-20.")] = "",
    board: Board = Path("leaderboard"),
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List what there is, by name."""
    from bench.catalogue import catalogue
    from bench.render.terminal import print_names

    filters = {
        "dataset": dataset, "eps": eps, "norm": norm, "architecture": architecture, "compression": compression,
        "attack": attack,
    }  # fmt: skip
    one_form(as_json=as_json, as_csv=as_csv)
    if what == "published":
        _list_published(filters, board, as_json=as_json, as_csv=as_csv)
        return
    names = catalogue(what, board)
    if given := [f"--{name}" for name, value in filters.items() if value] + ["--csv"] * as_csv:
        raise UsageError(f"{given[0]} is for published rows: say bench list published {given[0]}.")
    if as_json:
        print_json(dict(names))
    elif (screen := console()).is_terminal:
        print_names(names, what, screen)
    else:  # for other programs: names as other commands take them, uncut
        for name, about in names:
            typer.echo(f"{name}\t{about}")


def _list_published(filters: dict[str, str], board: Path, *, as_json: bool, as_csv: bool) -> None:
    from bench.board.published import load_published, select
    from bench.render.plain import PUBLISHED, published_json, published_records
    from bench.render.published import print_published

    rows = select(load_published(board, skip=skipped), **filters)
    if as_json:
        print_json({row.name: published_json(row) for row in rows})
    elif as_csv:
        print_csv(published_records(rows), PUBLISHED)
    else:
        print_published(rows, console())


def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe or entry (name or file), a step, track or published row."),
    ],
    board: Board = Path("leaderboard"),
    as_json: Json = False,
) -> None:
    """Show one recipe, step, track, entry or published row in full."""
    from bench.board.published import Published
    from bench.catalogue import find, seeds_of
    from bench.entry import Entry
    from bench.render.card import print_entry
    from bench.render.plain import published_json
    from bench.render.published import print_published_row
    from bench.render.terminal import print_record

    thing = find(name, board)
    if isinstance(thing, Published):
        print_json(published_json(thing)) if as_json else print_published_row(thing, console())
    elif isinstance(thing, Entry):
        print_json(thing.model_dump(mode="json")) if as_json else print_entry(
            thing, console(), seeds=seeds_of(thing, board)
        )
    elif as_json:
        print_json(thing)
    else:
        print_record(name, thing, console())
