"""`bench verify` and `bench challenge`: anybody may look at an entry again, or bring it down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.output import Board, Json, console, print_json, skipped
from bench.errors import GateError, InterruptedRunError, MissingError, UsageError
from bench.faults import is_line
from bench.scrutiny import VERIFIER

if TYPE_CHECKING:
    from bench.audit.verify import Outcome
    from bench.board.leaderboard import Row
    from bench.entry import Entry

Name = Annotated[str, typer.Argument(metavar="ENTRY", help="An entry: its name or its file.")]
Model = Annotated[Path | None, typer.Option(help="Folder of its model; else the one beside it, or in the cache.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]


def verify(
    name: Name,
    model: Model = None,
    evidence: Annotated[Path | None, typer.Option(help="Folder of its adversarial images; else beside it.")] = None,
    sample: Annotated[int, typer.Option(min=0, metavar="N", help="Surviving images to attack again, at most.")] = 20,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Of the sample and its attacks; drawn if left out.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Repeat the whole attack, and compare letters.")] = False,
    device: Device = "auto",
    trust: Annotated[bool, typer.Option("--trust", help="With --full: let python: parents run their code.")] = False,
    board: Board = Path("leaderboard"),
    as_json: Json = False,
) -> None:
    """Check that an entry holds, in minutes. Its row becomes verified, or the exit code is 1.

    An image that the entry calls robust and that falls here has a letter from then on.
    """
    import secrets

    from bench.audit.verify import Inquiry, verify
    from bench.catalogue import entry_file
    from bench.render.findings import print_findings
    from bench.render.progress import watching

    path = entry_file(name, board)
    entry = _load(path)
    if evidence is not None and not evidence.is_dir():
        raise MissingError(f"There is no folder {evidence}.")
    inquiry = Inquiry(
        model=model, beside=path.parent, evidence=evidence or path.parent, sample=sample, full=full, device=device,
        trust=trust, seed=secrets.randbelow(2**31) if seed is None else seed,
    )  # fmt: skip
    try:
        with watching(console(stderr=True)) as report:
            outcome = verify(entry, inquiry, report)
    except KeyboardInterrupt as interrupt:
        way_on = "the same command repeats the rest of the attack" if full else "nothing was written"
        raise InterruptedRunError(f"Interrupted: {way_on}.") from interrupt
    after = entry
    if outcome.verification is not None or outcome.fallen:
        with _unchanged(entry, path, board):
            after = _conceded(entry, outcome, path)
            if outcome.verification is not None:
                after = after.changed(status="verified", verification=outcome.verification)
            after.write(path)
    status, fell = after.status, entry.verdicts.robust.count - after.verdicts.robust.count
    if as_json:
        findings = [vars(one) for one in outcome.findings]
        print_json({"entry": entry.name, "status": status, "findings": findings, "conceded": fell})
    else:
        print_findings(f"{entry.track.name}/{entry.name}", outcome.findings, console())
        if fell:
            typer.echo(_conclusion(entry, fell, path, board, dry_run=False))
    if outcome.verification is None:
        wrong = [one.name for one in outcome.findings if one.holds is False]
        if not wrong:
            raise GateError(
                f"Nothing speaks against {entry.name}, but {sample} of its survivors are too few to call it verified; "
                f"leave --sample out, or add --full. Its status stays '{status}'."
            )
        kept = "stays" if status == entry.status else "is now"
        raise GateError(f"{entry.name} does not hold ({', '.join(wrong)}); its status {kept} '{status}'.")
    if not as_json:
        held, unchecked = outcome.verification.held, outcome.verification.unchecked
        left = f"; not checked: {', '.join(unchecked)}" if unchecked else ""
        typer.echo(f"Verified: {len(held)} checks hold{left}. Wrote {path}")


def _conceded(entry: Entry, outcome: Outcome, path: Path) -> Entry:
    """Return the entry with a letter for what fell here, judged once more as any challenger's images are."""
    import torch

    from bench.audit.challenge import Submitted, concede, judge_challenge

    if outcome.trial is None or not outcome.fallen:
        return entry
    images, numbers = torch.stack([*outcome.fallen.values()]), torch.tensor([*outcome.fallen])
    judged = judge_challenge(outcome.trial, entry.verdicts.letters, Submitted(images=images, indices=numbers))
    if not judged.winners:
        return entry
    examples = outcome.trial.examples
    return concede(entry, judged, examples, path, by=VERIFIER, reference="")


def challenge(
    name: Name,
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help=".npz or .pt: images, and indices of them.")],
    by: Annotated[str, typer.Option(help="Who made them.")],
    reference: Annotated[str, typer.Option(help="Where to read how: a URL.")] = "",
    model: Model = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, and write nothing.")] = False,
    device: Device = "auto",
    board: Board = Path("leaderboard"),
    as_json: Json = False,
) -> None:
    """Put adversarial images of your own to an entry's judge. Those that hold change its letters."""
    from bench.audit.challenge import concede, judge_challenge, read_images
    from bench.audit.retrial import find_model, same_model, stand_again
    from bench.catalogue import entry_file
    from bench.load.datasets import load_dataset
    from bench.machine.device import pick_device
    from bench.render.findings import print_fates

    if not by.strip() or not is_line(by) or by == VERIFIER:
        raise UsageError(f"Expected your name after --by, in one line, got {by!r}.")
    if reference and not re.fullmatch(r"https?://\S+", reference):
        raise UsageError(f"Expected a URL after --reference, https://…, got {reference!r}.")
    path, where = entry_file(name, board), pick_device(device)
    entry = _load(path)
    if not images.is_file():
        raise MissingError(f"There is no file {images}.")
    examples = load_dataset(entry.track.dataset).test.first(len(entry.verdicts.letters))
    submitted = read_images(images, examples, entry.track.threat)
    sealed = same_model(entry, find_model(entry, model, path.parent, where))
    trial = stand_again(entry, sealed, where).trial
    judged = judge_challenge(trial, entry.verdicts.letters, submitted)
    after = entry
    if judged.winners and not dry_run:
        # The images are written where the next free number says: nobody else may be looking for one meanwhile.
        with _unchanged(entry, path, board):
            after = concede(entry, judged, examples, path, by=by, reference=reference)
            after.write(path)
    if as_json:
        print_json({"entry": entry.name, "fates": judged.fates, "verdicts": after.verdicts.model_dump(mode="json")})
        return
    print_fates(f"{len(submitted.images):,} images against {entry.track.name}/{entry.name}", judged.fates, console())
    typer.echo(_conclusion(entry, len(judged.winners), path, board, dry_run=dry_run))


def _conclusion(entry: Entry, held: int, path: Path, board: Path, *, dry_run: bool) -> str:
    robust = entry.verdicts.robust
    if not held:
        return f"Nothing holds: {entry.name} stays at {robust.count:,} of {robust.total:,} images."
    fell = f"robust on {robust.count - held:,} of {robust.total:,} images instead of {robust.count:,}"
    if dry_run:
        return f"{entry.name} would be {fell}. Nothing was written."
    return f"{entry.name} is {fell}{_ranks(entry, path, board)}. Wrote {path}"


def _ranks(entry: Entry, path: Path, board: Path) -> str:
    """Say how the row's rank changed; the entry's file holds the new letters already."""
    from bench.board.leaderboard import load_entries, rank

    if path.resolve() != entry.path(board).resolve():
        return ""
    now = load_entries(board, entry.track.name, skip=skipped)
    before = [entry if one.name == entry.name else one for one in now]
    old, new = (_rank_of(entry, rank(entries)) for entries in (before, now))
    return "" if old == new or old is None or new is None else f", rank {new} instead of {old}"


def _rank_of(entry: Entry, rows: list[Row]) -> int | None:
    return next((row.rank for row in rows if any(one.name == entry.name for one in row.seeds)), None)


def _load(path: Path) -> Entry:
    """Read an entry; what is wrong with one is a finding about it, not about the command."""
    from bench.entry import load_entry

    try:
        return load_entry(path)
    except UsageError as error:
        raise GateError(str(error)) from error


@contextmanager
def _unchanged(entry: Entry, path: Path, board: Path) -> Iterator[None]:
    """Hold the board while an entry is replaced, which must still be the one that was read."""
    from bench.entry import load_entry
    from bench.files import locked

    with locked(board if path.is_relative_to(board) else path.parent):
        if load_entry(path) != entry:
            raise GateError(f"{path} changed meanwhile: look at it again.")
        yield
