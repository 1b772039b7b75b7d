"""Entries with made-up figures: what a test says about one is all that matters in it."""

from fractions import Fraction

from bench.efficiency import Efficiency
from bench.entry import Agreement, Effort, Entry, RecipeRecord, TrackRecord
from bench.provenance import Provenance
from bench.verdicts import AUTOATTACK, Verdicts


def make_entry(
    recipe="quant8",
    letters="..a.x",
    *,
    n_examples=None,
    track="digits-linf-v1",
    question="0123456789ab",
    model="bench:digits-cnn",
    seed=0,
    bops=64,
    attacks=AUTOATTACK,
    alarms=(),
):
    cost = Efficiency(macs=1, bops=bops, parameters=10, nonzeros=10, bytes=100, artefact="onnx-int8")
    return Entry(
        track=TrackRecord(
            name=track,
            fingerprint=question,
            dataset="digits",
            norm="Linf",
            eps=Fraction("0.15"),
            n_examples=len(letters) if n_examples is None else n_examples,
        ),
        recipe=RecipeRecord(
            name=recipe, summary="Made up", steps=({"step": "quantize", "weight_bits": 8},), fingerprint="ba9876543210"
        ),
        model=model,
        seed=seed,
        engine="made-up 0",
        verdicts=Verdicts.of(attacks=attacks, letters=letters, alarms=alarms),
        agreement=Agreement(n=5, top1=1.0, gap=0.0004, noise=0.0003),
        efficiency=cost,
        parent=cost.model_copy(update={"bops": 1024, "artefact": "onnx-float32"}),
        effort=Effort(finetune_forward=0, finetune_backward=0, attack_forward=9, attack_backward=4, seconds={"load": 1}),
        provenance=Provenance(
            bench="0.1.0",
            commit=None,
            dirty=False,
            python="3.12.3",
            packages={"torch": "2.15.0"},
            device="cpu",
            machine="a machine, 2 cores",
            when="2026-11-22T09:00:00+00:00",
        ),
    )
