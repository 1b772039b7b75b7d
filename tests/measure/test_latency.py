from types import SimpleNamespace

import pytest
import torch

from bench.measure import latency as measuring
from bench.measure.latency import measure_latency


class Clock:
    """Time that passes only where a model takes it: what else the machine does changes nothing."""

    def __init__(self) -> None:
        self.now = 0.0

    def model(self, seconds):
        """Return a classifier that takes `seconds`, a number or a function of the time of day."""

        def classify(images):
            self.now += seconds(self.now) if callable(seconds) else seconds
            return torch.zeros(len(images), 2)

        return classify


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def test_ratio_and_times_are_those_of_the_models(clock):
    latency = measure_latency(clock.model(0.002), clock.model(0.008), (1, 2, 2), budget_s=1.0)
    assert latency.ratio == pytest.approx(0.25)
    assert latency.ratio_64 == pytest.approx(0.25)
    assert (latency.median_ms, latency.p90_ms) == (pytest.approx(2), pytest.approx(2))
    assert latency.images_per_s == pytest.approx(64 / 0.002)
    assert latency.runtime.startswith("torch")
    assert not latency.noisy


def test_the_budget_holds(clock):
    measure_latency(clock.model(0.001), clock.model(0.001), (1, 2, 2), budget_s=0.8)
    assert 0.4 < clock.now < 1.0


def test_a_model_whose_speed_drifts_is_called_noisy(clock):
    drifting = clock.model(lambda now: 0.001 * 2 ** (now / 0.2))
    assert measure_latency(drifting, clock.model(0.001), (1, 2, 2), budget_s=1.0).noisy


def test_two_files_run_in_onnx_runtime_and_threads_are_restored():
    from bench.compress.onnx_graph import to_onnx

    data = to_onnx(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), (1, 2, 2))
    before = torch.get_num_threads()
    latency = measure_latency(data, data, (1, 2, 2), threads=1, budget_s=0.8)
    assert latency.runtime.startswith("onnxruntime")
    assert 0.5 < latency.ratio < 2
    assert torch.get_num_threads() == before
