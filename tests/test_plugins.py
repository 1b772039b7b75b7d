"""Packages that bring steps, models and data sets; here one that is written into a folder on the path."""

import sys

import pytest

from bench import plugins
from bench.catalogue import catalogue
from bench.errors import UsageError
from bench.load import plugged
from bench.load.datasets import dataset_names, load_dataset
from bench.load.models import list_models
from bench.recipe import STEPS, load_recipe
from bench.registry import Registry

MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Halve:
    \"\"\"Halve the last layer.\"\"\"
    times: int = 1

    def __call__(self, subject, ingredients):
        return subject

def make_net():
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def load_faces():
    from bench.load.datasets import load_digits
    return load_digits()

def register(shelves):
    shelves.steps.add("halve", Halve)
    shelves.models.add("net", make_net)
    shelves.datasets.add("faces", load_faces)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution into a folder on the path; registries begin as if nobody had asked yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (STEPS, plugged.MODELS, plugged.DATASETS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
        monkeypatch.setattr(registry, "_more", "bench.plugins:register_all")
    monkeypatch.setattr(plugins, "_packages", {})
    plugins.register_all.cache_clear()

    def installed(name: str, module: str, code: str, target: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[bench.plugins]\nmine = {target}\n")

    yield installed
    plugins.register_all.cache_clear()
    for name in ("bench_halving", "bench_broken"):
        sys.modules.pop(name, None)


def test_a_package_brings_steps_models_and_data_sets(install, tmp_path, monkeypatch):
    install("Bench_Halving", "bench_halving", MODULE, "bench_halving:register")
    assert ("bench-halving/halve", "Halve the last layer. (package bench-halving 1.2)") in catalogue("steps", tmp_path)
    assert "plugin:bench-halving/net" in dict(list_models())
    assert "bench-halving/faces" in dataset_names()
    assert load_dataset("bench-halving/faces").name == "bench-halving/faces"
    assert plugged.plugged_model("bench-halving/net")[1].out_features == 10
    (tmp_path / "mine.toml").write_text('summary = "S"\n[[steps]]\nstep = "bench-halving/halve"\ntimes = 2\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert recipe.declared() == ({"step": "bench-halving/halve", "times": 2},)
    assert plugins.packages_of(["quantize", "bench-halving/halve"]) == {"bench-halving": "1.2"}


def test_what_a_plugin_raises_is_said_in_one_sentence(install):
    code = "def net():\n    raise SystemExit('no licence')\ndef register(shelves):\n    shelves.models.add('net', net)"
    install("bench-broken", "bench_broken", code, "bench_broken:register")
    with pytest.raises(UsageError, match=r"bench_broken.py, line 2, raised SystemExit: no licence; fix it\."):
        plugged.plugged_model("bench-broken/net")


def test_a_module_does_as_well_as_a_function(install):
    install("bench-halving", "bench_halving", MODULE, "bench_halving")
    assert "bench-halving/halve" in STEPS


@pytest.mark.parametrize("code", ["raise RuntimeError('it is old')", "def register(shelves):\n    shelves.nothing"])
def test_a_broken_plugin_is_one_warning(install, code, capsys):
    install("bench-broken", "bench_broken", code, "bench_broken:register")
    assert "quantize" in list(STEPS)
    assert "no-such-step" not in STEPS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: The plugin mine (bench-broken, bench_broken:register) raised ")


def test_names_that_are_known_ask_no_plugin(install, capsys):
    install("bench-broken", "bench_broken", "raise RuntimeError", "bench_broken:register")
    assert "quantize" in STEPS
    assert STEPS.get("finetune-clean")
    assert capsys.readouterr().err == ""


def test_things_are_lent_for_a_while():
    registry = Registry("step", {"a": 1})
    with registry.lent({"x/b": 2}):
        assert registry.get("x/b") == 2
    assert list(registry) == ["a"]
