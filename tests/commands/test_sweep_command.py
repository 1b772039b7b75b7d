"""`bench sweep` as people and scripts meet it: exit codes, JSON, and the way on."""

import json
import sys
from dataclasses import replace

import pytest
from factories import make_entry, make_letters

from bench import cli
from bench.run import cells


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run a command in this process; cells of quant8 fail, all others answer."""

    def measure(cell, board, report):
        if cell.answer.recipe == "quant8":
            return replace(waiting(cell), state="failed", reason="No disk.", seconds=1.0)
        if cell.answer.recipe == "quant2":
            raise KeyboardInterrupt
        entry = make_entry(cell.answer.recipe, make_letters(), track="digits-linf-v1")
        return replace(waiting(cell), state="measured", entry=entry, seconds=2.0)

    def waiting(cell):
        return cells.Result(cell=cell, state="waiting")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    monkeypatch.setattr(cells, "_measure", measure)
    monkeypatch.chdir(tmp_path)
    return run


def write(folder, *recipes):
    names = ", ".join(f'"{recipe}"' for recipe in recipes)
    (folder / "s.toml").write_text(f'tracks = ["digits-linf-v1"]\nrecipes = [{names}]\n')


def test_all_is_well(bench, tmp_path):
    write(tmp_path, "none", "prune50")
    code, out, err = bench("sweep", "s.toml")
    assert code == 0
    assert "2 cells: 2 measured now" in out
    assert "2/2 digits-linf-v1/bench-digits-cnn--prune50: measured after 2.0 s, robust 58.0 ±4.8 %" in err
    assert (tmp_path / "s.svg").exists() or "pip install 'bench[plot]'" in err


def test_a_failed_cell_is_exit_code_1(bench, tmp_path):
    write(tmp_path, "quant8", "none")
    code, out, err = bench("sweep", "s.toml", "--json")
    assert code == 1
    assert err.splitlines()[-1] == "error: 1 of 2 cells failed; the same command tries them again."
    first, second = json.loads(out)
    assert (first["state"], first["reason"], first["robust"]) == ("failed", "No disk.", None)
    assert (second["state"], second["reason"], second["robust"]) == ("measured", None, {"count": 232, "total": 400})


def test_interrupted_it_says_how_to_go_on(bench, tmp_path):
    write(tmp_path, "none", "quant2", "prune50")
    code, out, err = bench("sweep", "s.toml")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == (
        "error: Interrupted. What was done is kept, of the running cell, too: bench sweep s.toml goes on."
    )


def test_a_mistake_in_the_file_is_exit_code_2(bench, tmp_path):
    write(tmp_path, "quant99")
    code, out, err = bench("sweep", "s.toml")
    assert (code, out) == (2, "")
    assert "There is no recipe 'quant99'. Did you mean 'quant8'?" in err


def test_a_dry_run_runs_nothing(bench, tmp_path):
    write(tmp_path, "none", "quant2")
    code, out, _ = bench("sweep", "s.toml", "--dry-run", "--json", "--device", "cpu")
    assert code == 0
    none, quant2 = json.loads(out)
    assert none["state"] == quant2["state"] == "waiting"
    assert none["cost"]["macs"] == 444_032
    assert none["cost"]["attack_forward"] < quant2["cost"]["attack_forward"]
    assert not (tmp_path / "leaderboard").exists()
