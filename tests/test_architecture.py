"""Every module has its layer; that it imports from lower ones only, `lint-imports` checks."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
