"""Entries with made-up figures, in the shape of real ones."""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest

from bench.efficiency import Efficiency, Latency
from bench.entry import Agreement, Effort, Entry, RecipeRecord, TrackRecord
from bench.leaderboard import Row, rank
from bench.provenance import Provenance
from bench.verdicts import Alarm, Verdicts

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
MACS, PARAMETERS = 3_610_000, 28_742


def make_entry(
    recipe: str = "quant8-advft",
    *,
    robust: float = 0.58,
    clean: float = 0.91,
    n: int = 400,
    of: int = 400,
    bits: int = 8,
    width: float = 1.0,
    model: str = "bench:digits-cnn",
    seed: int = 0,
    attacks: tuple[str, ...] = ATTACKS,
    alarms: tuple[Alarm, ...] = (),
    machine: str = "AMD EPYC 9354, 8 cores, avx512_vnni",
    noisy: bool = False,
) -> Entry:
    simulated = bits not in (8, 32)
    macs = int(MACS * width * width)
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
    parent_latency = latency.model_copy(
        update={"median_ms": 0.0473, "ratio": 1.0, "ratio_64": 1.0, "images_per_s": 24_480.0}
    )
    parent = Efficiency(
        macs=MACS,
        bops=MACS * 1024,
        parameters=PARAMETERS,
        nonzeros=PARAMETERS,
        bytes=118_432,
        artefact="onnx-float32",
        latency=parent_latency,
    )
    return Entry(
        track=TrackRecord(
            name="digits-linf-v1",
            fingerprint="0123456789ab",
            dataset="digits",
            norm="Linf",
            eps=Fraction("0.15"),
            n_examples=of,
        ),
        recipe=RecipeRecord(
            name=recipe,
            summary="W8A8, then adversarial fine-tuning through the quantised network",
            steps=_steps(bits, width),
            fingerprint="ba9876543210",
        ),
        model=model,
        seed=seed,
        engine="bench 0.1.0",
        verdicts=Verdicts.of(attacks=attacks, letters=_letters(robust, clean, n, len(attacks)), alarms=alarms),
        agreement=None if bits == 32 else Agreement(n=400, top1=1.0, gap=0.0004, noise=0.0003),
        efficiency=Efficiency(
            macs=macs,
            bops=macs * bits * bits,
            parameters=int(PARAMETERS * width),
            nonzeros=int(PARAMETERS * width),
            bytes=int(118_432 * width * bits / 32) + 4000,
            artefact="simulated" if simulated else "onnx-int8" if bits == 8 else "onnx-float32",
            integer_macs=None if bits == 32 else 1.0,
            latency=None if simulated else latency,
        ),
        parent=parent,
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


def make_rows() -> list[Row]:
    """A board with everything on it: a tie, a partial row, a warning and a fatal alarm."""
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
            make_entry("none", robust=0.60, clean=0.965, bits=32),
            make_entry("quant8", robust=0.56, clean=0.95),
            make_entry("quant8-advft", robust=0.6325, clean=0.9475),
            make_entry("quant8-ft", robust=0.09, clean=0.97),
            make_entry("prune50-advft", robust=0.51, clean=0.925, bits=32, width=0.5, noisy=True),
            make_entry("prune50-quant8-advft", robust=0.5075, clean=0.92, width=0.5),
            make_entry("quant4-advft", robust=0.47, clean=0.90, bits=4, alarms=(warning,)),
            make_entry("quant8-dynamic", robust=0.81, clean=0.95, alarms=(fatal,)),
            make_entry("quant2-advft", robust=0.44, clean=0.86, bits=2, n=100),
        ]
    )


def _steps(bits: int, width: float) -> tuple[dict[str, Any], ...]:
    steps: list[dict[str, Any]] = []
    if width < 1:
        steps.append({"step": "prune-channels", "ratio": 0.5, "importance": "l1", "round_to": None})
    if bits < 32:
        steps.append(
            {
                "step": "quantize",
                "weight_bits": bits,
                "activation_bits": bits,
                "calibration_images": 512,
                "learned_steps": True,
                "first_and_last_bits": 8,
            }
        )
    return (
        *steps,
        {
            "step": "finetune-adversarial",
            "epochs": 3,
            "batch_size": 64,
            "learning_rate": 0.01,
            "attack_steps": 10,
            "momentum": 0.9,
        },
    )


def _letters(robust: float, clean: float, n: int, attacks: int) -> str:
    standing, wrong = round(n * robust), n - round(n * clean)
    fallen = n - standing - wrong
    last = int(fallen > 20) if attacks > 2 else 0
    kills = [fallen - fallen // 4 - last, fallen // 4, *[0] * (attacks - 3), *[last] * (attacks > 2)]
    letters = "." * standing + "x" * wrong + "".join("abcdefgh"[i] * kill for i, kill in enumerate(kills))
    shuffled = list(letters)
    random.Random(0).shuffle(shuffled)
    return "".join(shuffled)


@pytest.fixture
def entry() -> Entry:
    return make_entry()


@pytest.fixture
def entry_of() -> Callable[..., Entry]:
    return make_entry


@pytest.fixture
def rows() -> Sequence[Row]:
    return make_rows()
