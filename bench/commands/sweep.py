"""`bench sweep`: many cells, one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.output import Board, Json, complain, console, print_json
from bench.errors import BenchError, GateError, InterruptedRunError

if TYPE_CHECKING:
    from bench.sweep import Result


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP.toml", help="Recipes, models, tracks, seeds: docs/sweeps.md.")],
    board: Board = Path("leaderboard"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    trust: Annotated[bool, typer.Option("--trust", help="Let python: models and steps.py run their code.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the cells, and what each may cost.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a grid of cells; the same command goes on."""
    from bench.sweep import Result, load_sweep

    results = [Result.before(cell, board) for cell in load_sweep(file, device=device, trust=trust)]
    if dry_run:
        _forecast(results, device, as_json=as_json)
        return
    results = _run(results, file, board)
    if as_json:
        print_json([_record(result) for result in results])
    else:
        from bench.render.sweep import print_summary

        print_summary(results, console())
        _plot(results, file)
    if failed := [result for result in results if result.state == "failed"]:
        raise GateError(f"{len(failed):,} of {len(results):,} cells failed; the same command tries them again.")


def _run(results: list[Result], file: Path, board: Path) -> list[Result]:
    from bench.files import check_writable
    from bench.render.sweep import watching_cells
    from bench.run.cells import run_cells

    check_writable(board)
    try:
        with watching_cells(results, console(stderr=True)) as audience:
            return run_cells(results, board, audience.changed, audience.report)
    except KeyboardInterrupt as interrupt:
        way_on = f"What was done is kept, of the running cell, too: bench sweep {file} goes on."
        raise InterruptedRunError(f"Interrupted. {way_on}") from interrupt


def _forecast(results: list[Result], device: str, *, as_json: bool) -> None:
    from bench.forecast import forecast
    from bench.machine.device import pick_device
    from bench.render.sweep import print_forecast

    costs = forecast([result.cell for result in results if result.state != "done"], pick_device(device))
    if as_json:
        known = {title: {"unknown": cost} if isinstance(cost, str) else vars(cost) for title, cost in costs.items()}
        print_json([(record := _record(result)) | {"cost": known.get(record["cell"])} for result in results])
    else:
        print_forecast(results, costs, console())


def _plot(results: list[Result], file: Path) -> None:
    """Draw the sweep's own rows by compression level where they differ in that, else by cost."""
    from bench.board.leaderboard import rank
    from bench.errors import UsageError
    from bench.render.plot.draw import write_figure
    from bench.render.plot.figures import figure

    found: dict[str, list[Any]] = {}
    for result in results:
        if result.entry is not None:
            found.setdefault(result.entry.track.name, []).append(result.entry)
    boards = {track: rank(entries, by_seed=True) for track, entries in found.items()}
    try:
        try:
            panels = figure("compression", boards)
        except UsageError:  # the cells differ in something else
            panels = figure("pareto", boards)
        typer.echo(f"Wrote {write_figure(panels, Path(f'{file.stem}.svg'))}")
    except BenchError as error:
        complain("no plot", str(error), style="yellow")


def _record(result: Result) -> dict[str, Any]:
    request, entry = result.cell.request, result.entry
    record: dict[str, Any] = {
        "cell": result.cell.title,
        "recipe": request.recipe.name,
        "model": str(request.model),
        "track": request.track.name,
        "seed": request.seed,
        "images": request.images,
        "state": result.state,
        "seconds": None if result.seconds is None else round(result.seconds, 1),
        "reason": result.reason or None,
    }
    for name in ("robust", "clean"):
        found = getattr(entry.verdicts, name) if entry else None
        record[name] = {"count": found.count, "total": found.total} if found else None
    return record
