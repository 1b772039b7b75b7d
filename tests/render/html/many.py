"""Boards with hundreds of made-up rows, no two alike: for the page's size and speed."""

import random
from dataclasses import replace

from factories import make_entry, make_letters, make_rows

from bench.leaderboard import Row, rank
from bench.verdicts import Alarm

MODELS = ("bench:digits-cnn", "bench:conv8", "robustbench:cifar10/Linf/Carmon2019Unlabeled", "autoattack:resnet18")
MACHINES = ("AMD EPYC 9354, 8 cores, avx512_vnni", "Intel Xeon 8480+, 16 cores, avx512_vnni")
EVIDENCE = "{} of 400 images fell to Square alone, after every gradient attack had failed"


def make_boards(n: int, *, tracks: int = 3) -> dict[str, list[Row]]:
    """Spread `n` rows over tracks; what ranks them is not what is tried here, so that no test compares n² pairs."""
    rows = [_row(i, f"made-up-{i % tracks}-v1") for i in range(n)]
    boards = {
        f"made-up-{t}-v1": [row for row in rows if row.entry.track.name == f"made-up-{t}-v1"] for t in range(tracks)
    }
    return {track: _placed(rows) for track, rows in boards.items()}


def small_boards() -> dict[str, list[Row]]:
    """One board with everything on it, and one with three rows of another model."""
    others = [
        make_entry(f"prune{i}0", make_letters(i / 20), track="other-v1", model="bench:conv8", width=1 / i)
        for i in (2, 3, 5)
    ]
    return {"made-up-v1": make_rows(), "other-v1": rank(others)}


def _row(i: int, track: str) -> Row:
    dice = random.Random(i)
    width = dice.uniform(0.1, 1)
    bits = dice.choice((32, 8, 8, 4, 2))
    words = [f"prune{i % 90 + 10}", "" if bits == 32 else f"quant{bits}", dice.choice(("", "ft", "advft"))]
    robust = dice.uniform(0.02, 0.7)
    alarm = Alarm(name="square-beats-white-box", fatal=i % 50 == 0, evidence=EVIDENCE.format(i))
    entry = make_entry(
        "-".join(filter(None, words)),
        make_letters(robust, min(0.99, robust + dice.uniform(0.1, 0.4))),
        n_examples=400 if i % 40 else 1000,
        track=track,
        model=dice.choice(MODELS),
        seed=i,
        bits=bits,
        width=width,
        alarms=(alarm,) if i % 25 == 0 else (),
        machine=dice.choice(MACHINES),
    )
    seconds = {stage: value * dice.uniform(0.5, 2) for stage, value in entry.effort.seconds.items()}
    forward = round(entry.effort.attack_forward * dice.uniform(0.5, 2))
    when = f"2026-11-{i % 28 + 1:02d}T09:{i % 60:02d}:07+00:00"
    changes = {
        "effort": entry.effort.model_copy(update={"seconds": seconds, "attack_forward": forward}),
        "provenance": entry.provenance.model_copy(update={"commit": f"{dice.getrandbits(160):040x}", "when": when}),
    }
    (row,) = rank([entry.model_copy(update=changes)])
    return replace(row, pareto=False, delta=dice.uniform(-5, 60))


def _placed(rows: list[Row]) -> list[Row]:
    rows = sorted(rows, key=lambda row: (not row.entry.ranked, -row.entry.verdicts.robust.rate))
    return [replace(row, rank=i if row.entry.ranked else None) for i, row in enumerate(rows, 1)]
