"""Every module has its layer; that it imports from lower ones only, `lint-imports` checks."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def placed(name: str) -> set[str]:
    """Return the modules that a contract puts into layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [one for one in settings["contracts"] if one["name"] == name]
    return {module.strip() for line in contract["layers"] for module in line.split("|")}


def test_every_module_has_a_layer():
    modules = {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__"}
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert {f"bench.{name}" for name in modules | folders} == placed("one straight line, top to bottom")
    within = {path.stem for path in (ROOT / "bench" / "board").glob("*.py")} - {"__init__"}
    assert {f"bench.board.{name}" for name in within} == placed("a board")


def test_no_module_is_called_after_nothing():
    vague = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in (ROOT / "bench").rglob("*.py") if path.stem in vague]
