import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "latency.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("latency_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def row(script, **changes):
    facts = {"model": "conv8", "runtime": "onnxruntime 1", "batch": 1, "recipe": "W8A8", "ms": 1.0, "ratio": 0.4}
    return script.Row(**{**facts, "spread": 0.02, "noisy": False, "integer_macs": 1.0, **changes})


def test_goals_are_judged_where_the_processor_can_meet_them(script, monkeypatch):
    rows = [row(script), row(script, model="resnet18", ratio=0.4), row(script, recipe="prune50")]
    monkeypatch.setattr(script, "machine", lambda: "A, 2 cores, avx512_vnni")
    text = script.closing(rows)
    assert "conv8 W8A8 at batch 1 in onnxruntime 1: 0.40, at most 0.5 met" in text
    assert "resnet18 W8A8 at batch 1 in onnxruntime 1: 0.40, at most 0.35 missed" in text
    assert "prune50 " not in text
    monkeypatch.setattr(script, "machine", lambda: "B, 2 cores, avx2")
    assert script.closing(rows).startswith("No VNNI here")


@pytest.mark.slow
def test_the_table_has_a_row_for_each_recipe(script, capsys):
    script.main(["--models", "digits-cnn", "--batch", "1", "4", "--seconds", "0.2", "--json"])
    record = json.loads(capsys.readouterr().out)
    found = [r for r in record["rows"] if r["runtime"].startswith("onnxruntime")]
    assert [(r["batch"], r["recipe"]) for r in found] == [(n, name) for n in (1, 4) for name in script.RECIPES]
    assert all(r["ms"] > 0 and r["ratio"] > 0 for r in found)
    assert [r["integer_macs"] for r in found[:4]] == [None, pytest.approx(1.0), None, pytest.approx(1.0)]
    script.main(["--models", "digits-cnn", "--batch", "1", "--seconds", "0.2"])
    text = capsys.readouterr().out
    assert "weights untrained" in text
    assert "prune50+W8A8" in text
