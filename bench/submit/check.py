"""`bench check`: everything about a submission that can be known in seconds, without data and without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.errors import BenchError, UsageError
from bench.model import ModelSpec
from bench.recipe import Recipe, load_recipe
from bench.scrutiny import Finding
from bench.submission import Card, load_card
from bench.submit.scaffold import check_name
from bench.track import load_track


def check_submission(
    folder: Path, *, trust: bool, starting: Callable[[str], object] = lambda check: None
) -> Iterator[Finding]:
    """Check a submission's folder, one check after the other; what depends on one that does not hold is left out.

    Args:
        folder: the submission's.
        trust: whether its own steps may run.
        starting: told the name of each check before it runs.
    """

    def ask(check: str, question: Callable[[], str]) -> Finding:
        starting(check)
        try:
            return Finding(name=check, holds=True, text=question())
        except BenchError as error:
            return Finding(name=check, holds=False, text=str(error))

    yield ask("name", lambda: _name(folder))
    yield (found := ask("card", lambda: _card(load_card(folder))))
    if found.holds:
        card = load_card(folder)
        yield ask("tracks", lambda: ", ".join(load_track(track).name for track in card.tracks))
        yield ask("claim", lambda: _claim(card))
    yield (found := ask("recipe", lambda: load_recipe(str(folder), submissions=folder.parent).summary))
    if found.holds:
        recipe = load_recipe(str(folder), submissions=folder.parent)
        yield ask("pins", lambda: _pins(recipe))
        yield (found := ask("steps", lambda: ", ".join(step["step"] for step in recipe.declared()) or "none"))
        if found.holds:
            yield from _runs(recipe, ask, trust=trust)


def submission_folders(submissions: Path = Path("submissions")) -> list[Path]:
    """Return the folders in which submissions are, whole or not."""
    return sorted(path for path in submissions.glob("*") if path.is_dir() and not path.name.startswith((".", "_")))


def _runs(recipe: Recipe, ask: Callable[[str, Callable[[], str]], Finding], *, trust: bool) -> Iterator[Finding]:
    if recipe.own_code is not None and not trust:
        note = f"not run: {recipe.own_code.file} is code; read it, then --trust"
        yield from (Finding(name=check, holds=None, text=note) for check in ("own steps", "mock run"))
        return
    from bench.load.own_steps import own_steps
    from bench.submit.rehearsal import rehearse, rehearse_step

    try:
        with own_steps(recipe):
            for position, table in enumerate(recipe.steps):
                if recipe.is_own(table["step"]):
                    yield ask(table["step"], partial(rehearse_step, recipe, position))
            yield ask("mock run", partial(rehearse, recipe))
    except BenchError as error:
        yield Finding(name="own steps", holds=False, text=str(error))


def _name(folder: Path) -> str:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    check_name(folder.name)
    return folder.name


def _card(card: Card) -> str:
    return f"{card.title}; {card.licence}"


def _claim(card: Card) -> str:
    claim = card.claim
    if claim is None:
        return "none"
    track = load_track(claim.track)
    if claim.track not in card.tracks:
        raise UsageError(
            f"Expected a claim under one of the card's tracks, {', '.join(card.tracks)}, got {claim.track}."
        )
    if claim.n > track.n_examples:
        raise UsageError(f"Expected a claim on at most {track.n_examples:,} images of {claim.track}, got {claim.n:,}.")
    return f"robust {claim.robust} %, clean {claim.clean} % under {claim.attack}"


def _pins(recipe: Recipe) -> str:
    told = []
    if recipe.track:
        told.append(load_track(recipe.track).name)
    if recipe.model:
        told.append(str(ModelSpec.parse(recipe.model)))
    if recipe.seeds:
        told.append(f"seeds {', '.join(map(str, recipe.seeds))}")
    return ", ".join(told) or "none"
