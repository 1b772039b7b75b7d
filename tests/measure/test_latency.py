import time

import torch

from bench.measure.latency import measure_latency


def sleeper(seconds):
    def classify(images):
        time.sleep(seconds)
        return torch.zeros(len(images), 2)

    return classify


def test_ratio_and_times_are_those_of_the_models():
    latency = measure_latency(sleeper(0.002), sleeper(0.008), (1, 2, 2), budget_s=1.0)
    assert 0.15 < latency.ratio < 0.5
    assert 0.15 < latency.ratio_64 < 0.5
    assert 2 <= latency.median_ms <= latency.p90_ms < 8
    assert 64 / 0.008 < latency.images_per_s <= 64 / 0.002
    assert latency.runtime.startswith("torch")


def test_the_budget_holds():
    started = time.perf_counter()
    measure_latency(sleeper(0.001), sleeper(0.001), (1, 2, 2), budget_s=0.8)
    assert time.perf_counter() - started < 2.0


def test_a_model_whose_speed_drifts_is_called_noisy():
    def drifting(images):
        # Two of five windows of 50 ms at least are slow, and two are fast, whenever they begin.
        time.sleep(0.006 if int(time.perf_counter() / 0.1) % 2 else 0.001)
        return torch.zeros(len(images), 2)

    assert measure_latency(drifting, sleeper(0.001), (1, 2, 2), budget_s=1.0).noisy


def test_two_files_run_in_onnx_runtime_and_threads_are_restored():
    from bench.compress.onnx_graph import to_onnx

    data = to_onnx(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), (1, 2, 2))
    before = torch.get_num_threads()
    latency = measure_latency(data, data, (1, 2, 2), threads=1, budget_s=0.8)
    assert latency.runtime.startswith("onnxruntime")
    assert 0.5 < latency.ratio < 2
    assert torch.get_num_threads() == before
