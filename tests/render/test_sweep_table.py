"""A sweep as it is watched, summed up and foretold."""

import io

import pytest
from factories import make_entry, make_letters
from rich.console import Console

from bench.progress import Event
from bench.render.sweep import print_forecast, print_summary, watching_cells
from bench.sweep import Cost, Result, load_sweep


@pytest.fixture
def results(tmp_path):
    recipes = ", ".join(f'"prune{n}"' for n in range(10, 40))
    (tmp_path / "s.toml").write_text(f'tracks = ["digits-linf-v1"]\nrecipes = ["none", "quant8", {recipes}]\n')
    waiting = [Result.before(cell, tmp_path) for cell in load_sweep(tmp_path / "s.toml")]
    entry = make_entry("none", make_letters(0.5, 0.9), track="digits-linf-v1")
    return [Result(cell=waiting[0].cell, state="done", entry=entry, seconds=62.0), *waiting[1:]]


def console(*, terminal=False, height=20):
    file = io.StringIO()
    environment = {"TERM": "xterm-256color", "LINES": str(height)}
    return Console(file=file, width=100, height=height, force_terminal=terminal, _environ=environment), file


def play(results, where):
    with watching_cells(results, where) as audience:
        audience.changed(1, Result(cell=results[1].cell, state="running"))
        audience.report(Event(stage="apgd-t", done=1, total=4, note="3 of 9 fell"))
        if hasattr(audience, "render"):
            where.print(audience.render())
        audience.changed(1, Result(cell=results[1].cell, state="failed", reason="No disk.", seconds=5.0))


def test_a_pipe_gets_plain_lines(results):
    where, file = console()
    play(results, where)
    assert file.getvalue().splitlines() == [
        "32 cells, 1 done before",
        "2/32 digits-linf-v1/bench-digits-cnn--quant8: started",
        "2/32 apgd-t: started",
        "2/32 digits-linf-v1/bench-digits-cnn--quant8: failed after 5.0 s: No disk.",
    ]


def test_a_terminal_gets_the_cells_around_the_running_one(results):
    where, file = console(terminal=True)
    play(results, where)
    shown = file.getvalue()
    assert "apgd-t 25 %, 3 of 9 fell" in shown
    assert "prune15" in shown
    assert "prune39" not in shown  # there is no room


def test_a_summary_names_reasons(results):
    where, file = console()
    failed = Result(cell=results[1].cell, state="failed", reason="No disk.", seconds=5.0)
    print_summary([results[0], failed], where)
    text = " ".join(file.getvalue().split())
    assert "2 cells: 1 done before, 1 failed" in text
    assert "none done 50.0 ±4.9 90.0 1 min 02 s" in text
    assert "digits-linf-v1/bench-digits-cnn--quant8 No disk." in text


def test_a_forecast_says_that_it_is_the_most(results):
    where, file = console()
    cost = Cost(
        macs=1000, finetune_forward=600_000, finetune_backward=400_000, attack_forward=5000, attack_backward=2000,
        seconds=90.0, untrained=True,
    )  # fmt: skip
    print_forecast(results[:3], {results[1].cell.title: cost, results[2].cell.title: "No data."}, where)
    text = " ".join(file.getvalue().split())
    assert "quant8 waiting 1.00 M 7.00 k 1.41 G *1 min 30 s" in text
    assert "digits-linf-v1/bench-digits-cnn--prune10 No data." in text
    assert "At most about 1 min 30 s on this machine, beside 1 that nobody can tell the cost of, should" in text
    assert "* The parent is trained first" in text


def test_a_forecast_of_nothing_has_no_sum(results):
    for costs, told in (({results[1].cell.title: "No data."}, "cannot be told."), ({}, "No cell is left to run.")):
        where, file = console()
        print_forecast(results[:2], costs, where)
        text = " ".join(file.getvalue().split())
        assert told in text
        assert "At most" not in text
