"""Entries with made-up figures in the shape of real ones: what a test says about one is all that matters in it."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

from bench.board.leaderboard import UNTOUCHED, Row, rank
from bench.efficiency import Efficiency, Latency
from bench.effort import Effort
from bench.entry import Agreement, Entry
from bench.provenance import Provenance
from bench.recipe import fingerprint
from bench.recipe_record import RecipeRecord
from bench.track import Track, load_track, track_names
from bench.verdicts import AUTOATTACK, LETTERS, Alarm, Verdicts

MACS, PARAMETERS = 3_610_000, 28_742


def make_entry(
    recipe: str = "quant8",
    letters: str = "..a.x",
    *,
    n_examples: int | None = None,
    track: str = "made-up-v1",
    finetune_images: int = 80_000,
    model: str = "bench:digits-cnn",
    seed: int = 0,
    bits: int = 8,
    width: float = 1.0,
    bops: int | None = None,
    attacks: tuple[str, ...] = AUTOATTACK,
    alarms: tuple[Alarm, ...] = (),
    machine: str = "AMD EPYC 9354, 8 cores, avx512_vnni",
    noisy: bool = False,
    sparsity: float = 0.0,
) -> Entry:
    """Make an entry; under a made-up track it is whole unless told (`n_examples`)."""
    known = load_track(track) if track in track_names() else None
    steps = _steps(recipe, bits, width, sparsity)
    macs, simulated = int(MACS * width * width), bits not in (8, 32)
    latency = Latency(
        runtime="onnxruntime 1.31.1",
        threads=1,
        median_ms=0.0213,
        p90_ms=0.0241,
        images_per_s=61_200.0,
        ratio=0.45 * width,
        ratio_64=0.40 * width,
        noisy=noisy,
    )
    return Entry(
        track=known
        or Track(
            name=track,
            about="Made up",
            dataset="digits",
            norm="Linf",
            eps=Fraction("0.15"),
            n_examples=len(letters) if n_examples is None else n_examples,
            finetune_images=finetune_images,
            model="bench:digits-cnn",
        ),
        recipe=RecipeRecord(name=recipe, summary="Made up", steps=steps, fingerprint=fingerprint(steps)),
        model=model,
        seed=seed,
        engine="made-up 0",
        verdicts=Verdicts.of(attacks=attacks, letters=letters, alarms=alarms),
        agreement=None if bits == 32 else Agreement(n=400, top1=1.0, gap=0.0004, noise=0.0003),
        efficiency=Efficiency(
            macs=macs,
            bops=macs * bits * bits if bops is None else bops,
            parameters=int(PARAMETERS * width),
            nonzeros=int(PARAMETERS * width * (1 - sparsity)),
            bytes=int(118_432 * width * bits / 32) + 4000,
            compressed_bytes=int(118_432 * (1 - sparsity)) if sparsity else None,
            artefact="simulated" if simulated else "onnx-int8" if bits == 8 else "onnx-float32",
            integer_macs=None if bits == 32 else 1.0,
            latency=None if simulated else latency,
        ),
        parent=Efficiency(
            macs=MACS,
            bops=MACS * 1024,
            parameters=PARAMETERS,
            nonzeros=PARAMETERS,
            bytes=118_432,
            artefact="onnx-float32",
            latency=latency.model_copy(
                update={"median_ms": 0.0473, "ratio": 1.0, "ratio_64": 1.0, "images_per_s": 24_480.0}
            ),
        ),
        effort=Effort(
            finetune_forward=640_000,
            finetune_backward=640_000,
            attack_forward=1_890_122,
            attack_backward=402_310,
            seconds={"compress": 1.2, "fine-tune": 41.8, "attack": 96.4, "measure": 3.1},
        ),
        provenance=Provenance(
            bench="0.1.0",
            commit="d63e364aa01b2c3d4e5f60718293a4b5c6d7e8f9",
            dirty=False,
            python="3.12.3",
            packages={"torch": "2.15.0", "onnxruntime": "1.31.1", "pyautoattack": "0.2.0", "numpy": "2.4.0"},
            device="cpu",
            machine=machine,
            when="2026-11-22T09:00:00+00:00",
        ),
    )


def save_entry(entry: Entry, board: Path) -> Path:
    """Save an entry; return its file."""
    entry.save(board)
    return entry.path(board)


def make_letters(robust: float = 0.58, clean: float = 0.91, *, n: int = 400, attacks: int = 4) -> str:
    """Shuffle letters of these accuracies, with kills by the first, the second and the last attack."""
    standing, wrong = round(n * robust), n - round(n * clean)
    fallen = n - standing - wrong
    last = int(fallen > 20) if attacks > 2 else 0
    kills = [fallen - fallen // 4 - last, fallen // 4, *[0] * (attacks - 3), *[last] * (attacks > 2)]
    letters = list("." * standing + "x" * wrong + "".join(LETTERS[i] * kill for i, kill in enumerate(kills)))
    random.Random(0).shuffle(letters)
    return "".join(letters)


def make_rows() -> list[Row]:
    """Make a board with everything on it: a tie, a partial row, a warning and a fatal alarm."""
    warning = Alarm(
        name="square-beats-white-box",
        fatal=False,
        evidence="9 of 400 images fell to Square alone, after every gradient attack had failed",
    )
    fatal = Alarm(
        name="twin-disagrees", fatal=True, evidence="twin and deployed model agree on 97.25% of 400 clean images"
    )
    return rank(
        [
            make_entry(UNTOUCHED, make_letters(0.60, 0.965), bits=32),
            make_entry("quant8", make_letters(0.56, 0.95)),
            make_entry("quant8-advft", make_letters(0.6325, 0.9475)),
            make_entry("quant8-ft", make_letters(0.09, 0.97)),
            make_entry("prune50-advft", make_letters(0.51, 0.925), bits=32, width=0.5, noisy=True),
            make_entry("prune50-quant8-advft", make_letters(0.5075, 0.92), width=0.5),
            make_entry("quant4-advft", make_letters(0.47, 0.90), bits=4, alarms=(warning,)),
            make_entry("quant8-dynamic", make_letters(0.81, 0.95), alarms=(fatal,)),
            make_entry("quant2-advft", make_letters(0.44, 0.86, n=100), bits=2, n_examples=400),
        ]
    )


def _steps(recipe: str, bits: int, width: float, sparsity: float) -> tuple[dict[str, Any], ...]:
    steps: list[dict[str, Any]] = []
    if recipe == UNTOUCHED:
        return ()
    if width < 1:
        steps.append({"step": "prune-channels", "ratio": 0.5, "importance": "l1", "round_to": None})
    if sparsity:
        steps.append({"step": "prune-weights", "sparsity": sparsity, "pattern": "global"})
    if bits < 32:
        steps.append({"step": "quantize", "weight_bits": bits, "activation_bits": bits, "calibration_images": 512})
    if recipe.endswith("ft"):
        steps.append({"step": "finetune-adversarial", "epochs": 3, "learning_rate": 0.01, "attack_steps": 10})
    return tuple(steps)
