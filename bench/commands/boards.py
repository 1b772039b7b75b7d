"""`bench leaderboard` and `bench compare`: rows among each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.output import Board, Csv, Json, console, one_form, print_csv, print_json, skipped
from bench.errors import GateError, UsageError

if TYPE_CHECKING:
    from bench.board.leaderboard import Cost, Row
    from bench.board.published import Published

Rows = Mapping[str, Sequence["Row"]]
Beside = Mapping[str, tuple[Sequence["Published"], int]]


def leaderboard(
    track: Annotated[str, typer.Option(help="Only this track.")] = "",
    cost: Annotated[str, typer.Option(help="Of the Pareto front: bops, macs, bytes or latency.")] = "bops",
    seeds: Annotated[bool, typer.Option("--seeds", help="A row for each seed.")] = False,
    published: Annotated[bool, typer.Option("--published", help="Show published rows among ours.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="A board (folder, or what --json printed): exit 1 if anything got worse.")
    ] = None,
    board: Board = Path("leaderboard"),
    markdown: Annotated[bool, typer.Option("--markdown", help="Render LEADERBOARD/README.md.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Render LEADERBOARD/index.html.")] = False,
    check: Annotated[bool, typer.Option("--check", help="With either: write nothing, fail when stale.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Print the leaderboard, or render it to Markdown or HTML."""
    from bench.board.leaderboard import load_boards

    chosen = _cost(cost)
    one_form(as_json=as_json, as_csv=as_csv)
    files = [f"--{form}" for form, wanted in (("markdown", markdown), ("html", html)) if wanted]
    if check and not files:
        raise UsageError("--check asks whether the rendered files are fresh: use it with --markdown or --html.")
    given = {"--track": track, "--published": published, "--against": against, "--seeds": seeds, "--json": as_json}
    if files and (extra := [name for name, value in (given | {"--csv": as_csv}).items() if value]):
        raise UsageError(f"{files[0]} renders every track as it is: leave {extra[0]} out.")
    if against is not None:
        _against(against, board, track, as_json=as_json)
    elif files:
        _render(files, board, chosen, check=check)
    else:
        boards = load_boards(board, track, skip=skipped, cost=chosen, by_seed=seeds)
        _print(boards, _beside(boards, board, skipped) if published else {}, as_json=as_json, as_csv=as_csv)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="A B…", help="Entries, published:NAME, best-published, published:best@sparse90 or @any."
        ),
    ],
    unlike: Annotated[bool, typer.Option("--unlike", help="Compare different questions, and say so.")] = False,
    board: Board = Path("leaderboard"),
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare the first row with others. Accuracies, paired tests, costs, attacks, images."""
    from bench.board.comparison import compare
    from bench.catalogue import find_rows
    from bench.render.comparison import print_comparison
    from bench.render.plain import COMPARISON, comparison_json, comparison_records

    one_form(as_json=as_json, as_csv=as_csv)
    comparison = compare(find_rows(names, board), unlike=unlike)
    if as_json:
        print_json(comparison_json(comparison))
    elif as_csv:
        print_csv(comparison_records(comparison), COMPARISON)
    else:
        print_comparison(comparison, console())


def _cost(name: str) -> Cost:
    from bench.board.leaderboard import COSTS
    from bench.registry import did_you_mean

    for cost in COSTS:
        if cost == name:
            return cost
    raise UsageError(f"There is no cost '{name}'.{did_you_mean(name, COSTS)}")


def _beside(boards: Rows, board: Path, skip: Callable[[str], None]) -> Beside:
    from bench.board.published import beside, load_published

    known = load_published(board, skip=skip)
    tracks = {name: rows[0].entry.track for name, rows in boards.items() if rows}
    return {name: beside(known, dataset=track.dataset, threat=track.threat) for name, track in tracks.items()}


def _print(boards: Rows, published: Beside, *, as_json: bool, as_csv: bool) -> None:
    from bench.render.beside import board_beside
    from bench.render.plain import BOARD, board_json, board_records, published_in_board, published_json
    from bench.render.terminal import print_board, print_table

    if as_json:
        record: dict[str, object] = {name: board_json(rows) for name, rows in boards.items()}
        if published:
            record = {
                name: {"rows": rows, "published": [published_json(row) for row in published.get(name, ((), 0))[0]]}
                for name, rows in record.items()
            }
        print_json(record)
    elif as_csv:
        records = [
            record
            for name, rows in boards.items()
            for record in board_records(name, rows) + published_in_board(name, published.get(name, ((), 0))[0])
        ]
        print_csv(records, BOARD)
    else:
        for name, rows in boards.items():
            if rows and name in published:
                print_table(board_beside(rows, *published[name]), console())
            else:
                print_board(rows, console())


def _render(files: Sequence[str], board: Path, cost: Cost, *, check: bool) -> None:
    from bench.board.leaderboard import check_board, load_boards
    from bench.board.published import FOLDER
    from bench.files import locked
    from bench.render.pages import write_html, write_pages

    check_board(board)
    complaints: list[str] = []
    with locked(board):  # from reading to writing: nobody's new entry is missing from the page that is written last
        boards = load_boards(board, skip=complaints.append, cost=cost)
        stale = write_pages(boards, board, check=check) if "--markdown" in files else []
        if "--html" in files:
            published = _beside(boards, board, complaints.append) if any((board / FOLDER).glob("*.jsonl")) else {}
            stale += write_html(boards, board, published, check=check)
    for sentence in complaints:
        skipped(sentence)
    if check and (stale or complaints):
        where = "" if board == Path("leaderboard") else f" --board {board}"
        found = (
            [f"Stale: {', '.join(map(str, stale))}. Run bench leaderboard{where} {' '.join(files)}."] if stale else []
        )
        found += [f"Not entries: {len(complaints)} of the files, named above."] if complaints else []
        raise GateError(" ".join(found))
    typer.echo("\n".join(f"Wrote {path}" for path in stale) or "Everything is fresh.")


def _against(path: Path, board: Path, track: str, *, as_json: bool) -> None:
    from bench.board.regressions import load_board, regressions
    from bench.render.terminal import print_names

    before, after = load_board(path, track=track, skip=skipped), load_board(board, track=track, skip=skipped)
    found = regressions(before, after)
    if as_json:
        print_json([vars(one) for one in found])
    elif found:
        print_names([(f"{one.track}/{one.name}", one.text) for one in found], "worse than before", console())
    else:
        fresh = len(set(after) - set(before))
        typer.echo(f"Nothing got worse: {len(before):,} entries compared, {fresh:,} new.")
    if found:
        raise GateError(f"{len(found):,} regressions against {path}.")
