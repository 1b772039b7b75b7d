"""Time of a prediction: child and parent alternately in one process, so that their ratio can be trusted.

After MLPerf Inference and Tiny (Reddi et al., 2020; Banbury et al., 2021): single stream with median and p90, warm-up,
several windows, the median over windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from bench.efficiency import Latency
from bench.model import Classifier

Run = Callable[[], None]

_WINDOWS = 5
_BATCH = 64
_NOISY = 0.15  # interquartile range over median, of the windows' ratios


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Times of child and parent at one batch size.

    Attributes:
        child_s: seconds of each call of the child.
        parent_s: the same for the parent.
        ratio: median over windows of child's median / parent's median.
        spread: interquartile range of that ratio over windows, relative to it.
    """

    child_s: tuple[float, ...]
    parent_s: tuple[float, ...]
    ratio: float
    spread: float


def measure_latency(
    child: bytes | Classifier,
    parent: bytes | Classifier,
    image_shape: tuple[int, int, int],
    *,
    threads: int = 1,
    budget_s: float = 8.0,
) -> Latency:
    """Time a deployed model against its parent at batch 1 and 64.

    A file runs in ONNX Runtime, a function as it is; give two files wherever there are two.

    Args:
        child: ONNX file, or a function of images (N, C, H, W) on the CPU.
        parent: the same; what the ratios relate to.
        image_shape: (C, H, W).
        threads: inside one operator.
        budget_s: seconds to spend, about; a second try for a noisy result is part of them.
    """
    started = time.perf_counter()
    with _threads(threads):
        single, many = (_compare(child, parent, image_shape, n, threads, budget_s / 4) for n in (1, _BATCH))
        noisy = max(single.spread, many.spread) > _NOISY
        if noisy and time.perf_counter() - started < budget_s:
            single, many = (_compare(child, parent, image_shape, n, threads, budget_s / 4) for n in (1, _BATCH))
            noisy = max(single.spread, many.spread) > _NOISY
    return Latency(
        runtime=_runtime(child, parent),
        threads=threads,
        median_ms=1e3 * median(single.child_s),
        p90_ms=1e3 * float(np.quantile(single.child_s, 0.9)),
        images_per_s=_BATCH / median(many.child_s),
        ratio=single.ratio,
        ratio_64=many.ratio,
        noisy=noisy,
    )


def _compare(
    child: bytes | Classifier,
    parent: bytes | Classifier,
    image_shape: tuple[int, int, int],
    batch: int,
    threads: int,
    budget_s: float,
) -> Comparison:
    """Time both in windows of equal length, one call of each in turn."""
    images = np.random.default_rng(0).random((batch, *image_shape), dtype=np.float32)
    runs = [_runner(model, images, threads) for model in (child, parent)]
    started = time.perf_counter()
    for run in runs:
        run()  # warm-up: the first call allocates
    once = time.perf_counter() - started
    for run in runs:
        if once < budget_s / 4:
            run()
    windows = [_window(runs[0], runs[1], budget_s / _WINDOWS) for _ in range(_WINDOWS)]
    ratios = [median(ours) / median(theirs) for ours, theirs in windows]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return Comparison(
        child_s=tuple(value for ours, _ in windows for value in ours),
        parent_s=tuple(value for _, theirs in windows for value in theirs),
        ratio=float(middle),
        spread=float((high - low) / middle),
    )


def _window(child: Run, parent: Run, seconds: float) -> tuple[list[float], list[float]]:
    """Return times of child and parent, called alternately for so many seconds, at least once each."""
    ours: list[float] = []
    theirs: list[float] = []
    end = time.perf_counter() + seconds
    while not ours or time.perf_counter() < end:
        for run, times in ((child, ours), (parent, theirs)):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return ours, theirs


def _runner(model: bytes | Classifier, images: np.ndarray, threads: int) -> Run:
    """Return a function that runs the model once."""
    if isinstance(model, bytes):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # As the deployed model runs: exact int8 products on processors without VNNI, too.
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images}
        return lambda: session.run(None, feed)
    tensor = torch.from_numpy(images)

    def run() -> None:
        with torch.inference_mode():
            model(tensor)

    return run


def _runtime(child: bytes | Classifier, parent: bytes | Classifier) -> str:
    if isinstance(child, bytes) or isinstance(parent, bytes):
        import onnxruntime as ort

        name = f"onnxruntime {ort.__version__}"
        return name if isinstance(child, bytes) and isinstance(parent, bytes) else f"{name} against torch"
    return f"torch {torch.__version__}"


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
