from types import SimpleNamespace

import pytest
import torch

from bench.compress.onnx_graph import to_onnx
from bench.measure import latency as measuring
from bench.measure.latency import Comparison, compare, measure_latency


class Clock:
    """Time that passes only where a model takes it: what else the machine does changes nothing."""

    def __init__(self) -> None:
        self.now = 0.0

    def model(self, seconds):
        """Return a model that takes `seconds`, a number or a function of the time of day."""

        def predict():
            self.now += seconds(self.now) if callable(seconds) else seconds

        return predict


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def test_ratio_and_times_are_those_of_the_models(clock):
    found = compare(clock.model(0.002), clock.model(0.008), budget_s=1.0)
    assert found.ratio == pytest.approx(0.25)
    assert found.child_s == pytest.approx([0.002] * len(found.child_s))
    assert found.parent_s == pytest.approx([0.008] * len(found.parent_s))
    assert not found.noisy


def test_the_budget_holds(clock):
    compare(clock.model(0.001), clock.model(0.001), budget_s=0.8)
    assert 0.2 < clock.now < 1.0


def test_a_model_whose_speed_drifts_is_called_noisy_after_a_second_try(clock):
    drifting = clock.model(lambda now: 0.001 * 2 ** (now / 0.2))
    assert compare(drifting, clock.model(0.001), budget_s=1.0).noisy
    assert clock.now > 0.9


@pytest.fixture(scope="module")
def file():
    return to_onnx(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), (1, 2, 2))


def test_files_run_in_onnx_runtime(file):
    latency = measure_latency(file, file, (1, 2, 2), budget_s=0.8)
    assert latency.runtime.startswith("onnxruntime")
    assert 0.5 < latency.ratio < 2


def test_what_a_latency_keeps_of_the_times(file, monkeypatch):
    single = Comparison(child_s=(0.001,) * 9 + (0.003,) * 2, parent_s=(0.002,), ratio=0.5, spread=0.01)
    many = Comparison(child_s=(0.032,), parent_s=(0.128,), ratio=0.25, spread=0.5)
    found = iter([single, many])
    monkeypatch.setattr(measuring, "compare", lambda child, parent, budget_s: next(found))
    latency = measure_latency(file, file, (1, 2, 2))
    assert (latency.median_ms, latency.p90_ms) == (pytest.approx(1), pytest.approx(3))
    assert latency.images_per_s == pytest.approx(64 / 0.032)
    assert (latency.ratio, latency.ratio_64) == (0.5, 0.25)
    assert latency.noisy
