"""The layers hold: a module imports from lower lines only."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the contract stands in the checkout")
def test_layers_hold(tmp_path):
    beside = Path(sys.executable).with_name("lint-imports")
    lint = beside if beside.is_file() else shutil.which("lint-imports")
    if lint is None:
        pytest.skip("import-linter is not installed")
    answer = subprocess.run(
        [str(lint), "--config", "pyproject.toml", "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert " 0 broken" in answer.stdout


def test_every_module_has_a_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    placed = {name.strip() for line in layers for name in line.split("|")}
    modules = {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert {f"bench.{name}" for name in modules | folders} == placed


def test_no_module_is_called_after_nothing():
    vague = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in (ROOT / "bench").rglob("*.py") if path.stem in vague]
