"""`bench evaluate`: down the line, for each of a recipe's seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.consent import may_run
from bench.commands.output import Board, Json, console, print_json, skipped
from bench.errors import InterruptedRunError
from bench.recipe_form import LARGEST_SEED

if TYPE_CHECKING:
    from bench.entry import Entry


def evaluate(
    recipe: Annotated[str, typer.Option(help="Recipe: a name, a submission, or a .toml file.")],
    track: Annotated[
        str, typer.Option(help="A name, or a .toml file; if left out the recipe's, or digits-linf-v1.")
    ] = "",
    model: Annotated[str, typer.Option(help="Parent, SOURCE:NAME; if left out the recipe's, or the track's.")] = "",
    n_examples: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Attack only the first N images: a partial entry.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, metavar="N", help="Of calibration and training; if left out the recipe's, or 0."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Try a setting: steps.0.weight_bits=4")
    ] = None,
    board: Board = Path("leaderboard"),
    engine: Annotated[
        str, typer.Option(help="Who attacks: bench, bench-tf32 (CUDA), reference; bench-bf16 is not ranked.")
    ] = "bench",
    trust: Annotated[bool, typer.Option("--trust", help="Let python: models and steps.py run their code.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an interrupted run left.")] = False,
    batch_size: Annotated[str, typer.Option(help="Images in a pass: auto, or a number.")] = "auto",
    keep: Annotated[bool, typer.Option("--keep-adversarial", help="Keep the images that decided verdicts.")] = False,
    keep_in: Annotated[Path | None, typer.Option(help="Keep them here instead of beside the entry.")] = None,
    as_json: Json = False,
) -> None:
    """Make a model small, attack it, measure it; write its row."""
    from bench.files import cache_dir, check_writable
    from bench.model import ModelSpec
    from bench.recipe import load_recipe
    from bench.recipe_changes import override
    from bench.request import Request, parse_batch_size
    from bench.submission import claim_on
    from bench.track import load_track

    the_recipe = override(load_recipe(recipe), settings or [])
    the_track = load_track(track or the_recipe.track or "digits-linf-v1")
    spec = ModelSpec.parse(model or the_recipe.model or the_track.model)
    agreed = may_run(the_recipe, trust=trust)
    requests = [
        Request(
            recipe=the_recipe, track=the_track, model=spec, n_examples=n_examples, seed=each, device=device,
            trust=trust, engine=engine, fresh=fresh, batch_size=parse_batch_size(batch_size), own_steps=agreed,
            claim=claim_on(the_recipe.folder, the_track.name),
            keep=keep_in or (board / the_track.name if keep else None),
        )
        for each in ([seed] if seed is not None else the_recipe.seeds or [0])
    ]  # fmt: skip
    for folder in filter(None, (board, cache_dir(), keep_in)):
        check_writable(folder)

    from bench.evaluate import evaluate_each
    from bench.render.progress import watching

    entries = []
    try:
        for entry in evaluate_each(requests, board, lambda: watching(console(stderr=True))):
            entries.append(entry)
            if not as_json:
                _present(entry, board)
    except KeyboardInterrupt as interrupt:
        way_on = "The same command goes on: fine-tuning after its last whole epoch, the attack where it stopped."
        raise InterruptedRunError(f"Interrupted. {way_on}") from interrupt
    if as_json:
        plain = [entry.model_dump(mode="json") for entry in entries]
        print_json(plain[0] if len(plain) == 1 else plain)


def _present(entry: Entry, board: Path) -> None:
    from bench.board.leaderboard import load_entries, rank
    from bench.render.card import print_entry
    from bench.render.terminal import print_board

    screen = console()
    print_entry(entry, screen)
    rows = rank(load_entries(board, entry.track.name, skip=skipped))
    place = next((row.entry.name for row in rows if entry in row.seeds), entry.name)
    print_board(rows, screen, highlight=place)
    screen.print(f"Wrote {entry.path(board)}", style="dim", highlight=False, soft_wrap=True)
