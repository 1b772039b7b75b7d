"""What a cell costs at most, known before it runs."""

import pytest
import torch

from bench.attack.suites import further, passes
from bench.forecast import finetuning_at_most, forecast, further_at_most
from bench.load.datasets import load_dataset
from bench.model import Subject
from bench.sweep import load_sweep


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))

    def cells(*recipes, more=""):
        names = ", ".join(recipe if recipe.startswith("{") else f'"{recipe}"' for recipe in recipes)
        (tmp_path / "s.toml").write_text(f'tracks = ["digits-linf-v1"]\nrecipes = [{names}]\nn_examples = 10\n{more}')
        return load_sweep(tmp_path / "s.toml")

    return cells


def test_fine_tuning_costs_what_its_step_says(cells):
    budget, train = 80_000, len(load_dataset("digits").train)
    expected = {
        "quant8": (0, 0),
        "ft": (budget, budget),
        "prune50-advft": (8 * budget, 8 * budget),
        "trades": (13 * budget, 12 * budget),
        '{recipe = "advft", set = ["steps.0.epochs=2"]}': (16 * train, 16 * train),
    }
    dataset = load_dataset("digits")
    for cell, (forward, backward) in zip(cells(*expected), expected.values(), strict=True):
        found = finetuning_at_most(cell, dataset)
        assert (found.forward, found.backward) == (forward, backward), cell.title


def test_the_attacks_are_at_least_those_that_run(cells):
    network = torch.nn.Linear(1, 2)
    attacked = Subject(twin=network, parent=torch.nn.Identity(), deployed=len, surrogate=network)
    none, pruned, quantised = cells("none", "prune50", "quant8")
    assert further_at_most(none) == ()
    assert further_at_most(pruned) == ("transfer",)
    assert further_at_most(quantised) == further(attacked)


def test_nothing_is_trained_for_a_forecast(cells, tmp_path):
    found = forecast(cells("none", "advft"), torch.device("cpu"))
    none, advft = found.values()
    assert none.untrained
    assert none.macs == 444_032
    suite = [passes(name, 10) for name in ("apgd-ce", "apgd-t", "fab-t", "square")]
    assert none.attack_forward == 10 * (sum(one.forward for one in suite) + 22)
    assert none.attack_backward == 10 * (sum(one.backward for one in suite) + 20)
    assert 0 < none.seconds < advft.seconds
    assert none.total_macs == none.macs * (none.attack_forward + 2 * none.attack_backward)
    assert not (tmp_path / "cache" / "models").exists()


def test_what_is_not_here_is_said(cells):
    more = '[[cells]]\nrecipe = "none"\nmodel = "checkpoint:absent.pt@bench:digits-cnn"\n'
    found = forecast(cells("none", more=more), torch.device("cpu"))
    assert [isinstance(cost, str) for cost in found.values()] == [False, True]
    assert "There is no checkpoint file absent.pt" in list(found.values())[1]
