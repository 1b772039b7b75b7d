"""Boards with hundreds of made-up rows, no two alike: for the page's size and speed."""

import random
from collections.abc import Sequence
from dataclasses import replace

from factories import make_entry, make_letters, make_rows

from bench.board.leaderboard import Row, rank
from bench.board.published import Published
from bench.verdicts import Alarm

MODELS = ("bench:digits-cnn", "bench:conv8", "robustbench:cifar10/Linf/Carmon2019Unlabeled", "autoattack:resnet18")
MACHINES = ("AMD EPYC 9354, 8 cores, avx512_vnni", "Intel Xeon 8480+, 16 cores, avx512_vnni")
EVIDENCE = "{} of 400 images fell to Square alone, after every gradient attack had failed"


def make_boards(rows: int, *, tracks: int = 3, n: int = 400) -> dict[str, list[Row]]:
    """Spread rows of `n` letters over tracks; their ranks are not tried here, so that no test compares all pairs."""
    made = [_row(i, f"made-up-{i % tracks}-v1", n) for i in range(rows)]
    boards = {
        f"made-up-{t}-v1": [row for row in made if row.entry.track.name == f"made-up-{t}-v1"] for t in range(tracks)
    }
    return {track: _placed(rows) for track, rows in boards.items()}


def small_boards() -> dict[str, list[Row]]:
    """One board with everything on it, and one with three rows of another model, one of each status."""
    others = [
        make_entry(f"prune{i}0", make_letters(i / 20), track="other-v1", model="bench:conv8", width=1 / i).model_copy(
            update={"status": status}
        )
        for i, status in ((2, "measured"), (3, "verified"), (5, "self-reported"))
    ]
    return {"made-up-v1": make_rows(), "other-v1": rank(others)}


def small_published() -> dict[str, tuple[Sequence[Published], int]]:
    """Make published rows for the first of the small boards: one above all of ours, one in the middle, one below."""
    return {
        "made-up-v1": (
            [
                make_published("digits-linf-Best2024", 70.1, attack="AutoAttack", n_examples=1000),
                make_published("digits-middling-sparse90", 55.2, attack="PGD-20", eps="3/20", sparsity=0.9),
                make_published("digits-weak-quant4", 12.5, attack="AutoAttack", eps="0.149", weight_bits=4),
            ],
            2,
        )
    }


def make_published(name: str, robust: float, *, attack: str, **told: object) -> Published:
    """Make a published row on the digits; `sparsity` and `weight_bits` say how it was compressed."""
    kinds = {"sparsity": "unstructured", "weight_bits": "quantised"}
    level = {key: told.pop(key) for key in kinds if key in told}
    record = {
        "name": name, "method": name.split("-")[1], "dataset": "digits", "norm": "Linf", "eps": "0.15",
        "architecture": "SomeNet-18", "robust": str(robust), "clean": "93.1", "attack": attack,
        "compression": {"kinds": [kinds[key] for key in level], **level},
        "source": f"https://example.org/{name}", "obtained": ["plot"], **told,
    }  # fmt: skip
    return Published.model_validate(record)


def _row(i: int, track: str, n: int) -> Row:
    dice = random.Random(i)
    width = dice.uniform(0.1, 1)
    bits = dice.choice((32, 8, 8, 4, 2))
    words = [f"prune{i % 90 + 10}", "" if bits == 32 else f"quant{bits}", dice.choice(("", "ft", "advft"))]
    robust = dice.uniform(0.02, 0.7)
    alarm = Alarm(name="square-beats-white-box", fatal=i % 50 == 0, evidence=EVIDENCE.format(i))
    entry = make_entry(
        "-".join(filter(None, words)),
        make_letters(robust, min(0.99, robust + dice.uniform(0.1, 0.4)), n=n),
        n_examples=n if i % 40 else n + 600,
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
