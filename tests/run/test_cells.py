"""The cells of a sweep: a bad one ends itself and not the sweep."""

import pytest
from factories import make_entry

from bench.run.cells import log_file, run_cells
from bench.sweep import Result, load_sweep


def start(folder, *recipes):
    names = ", ".join(f'"{recipe}"' for recipe in recipes)
    (folder / "sweep.toml").write_text(f'tracks = ["digits-linf-v1"]\nrecipes = [{names}]\n')
    (folder / "answer.json").write_text(make_entry("none", "." * 400, track="digits-linf-v1").model_dump_json())
    cells = load_sweep(folder / "sweep.toml")
    return [Result.before(cell, folder / "board") for cell in cells]


def run(folder, results, heard=None):
    heard = [] if heard is None else heard
    return run_cells(results, folder / "board", lambda number, now: heard.append((number, now.state)), lambda _: None)


def test_a_sweep_goes_on_past_every_kind_of_failure(fake_bench):
    heard = []
    results = run(fake_bench, start(fake_bench, "quant8", "quant4", "quant2", "quant16", "none"), heard)
    assert [result.state for result in results] == ["failed"] * 4 + ["measured"]
    assert [result.reason for result in results[:4]] == [
        "There is no data set 'digits'; set BENCH_DATA_DIR.",
        "The process was killed by SIGKILL, as happens when memory runs out.",
        "The process ended with exit code 1: RuntimeError: shapes differ.",
        "It ended well, but its entry digits-linf-v1/bench-digits-cnn--quant16 is not on the board.",
    ]
    assert results[4].entry.verdicts.robust.count == 400
    assert heard[:2] == [(0, "running"), (0, "failed")]
    assert heard[-1] == (4, "measured")
    assert "Traceback" in log_file(results[2].cell).read_text()


def test_what_is_done_is_not_done_again(fake_bench):
    run(fake_bench, start(fake_bench, "none"))
    before, heard = start(fake_bench, "none", "quant8"), []
    assert [result.state for result in before] == ["done", "waiting"]
    results = run(fake_bench, before, heard)
    assert [result.state for result in results] == ["done", "failed"]
    assert {number for number, _ in heard} == {1}


def test_an_interrupted_cell_interrupts_the_sweep(fake_bench):
    with pytest.raises(KeyboardInterrupt):
        run(fake_bench, start(fake_bench, "prune90", "none"))
