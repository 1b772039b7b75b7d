"""Time of a prediction: child and parent alternately in one process, so that their ratio can be trusted.

After MLPerf Inference and Tiny (Reddi et al., 2020; Banbury et al., 2021): single stream with median and p90, warm-up,
several windows, the median over windows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench.efficiency import Latency
from bench.measure.runtimes import Run, runner, version

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

    @property
    def noisy(self) -> bool:
        """Whether the windows spread too widely to be trusted."""
        return self.spread > _NOISY


def measure_latency(
    child: bytes, parent: bytes, image_shape: tuple[int, int, int], *, budget_s: float = 8.0
) -> Latency:
    """Time a deployed model against its parent in ONNX Runtime, on one thread, at batch 1 and 64.

    Args:
        child: an ONNX file.
        parent: the same; what the ratios relate to.
        image_shape: (C, H, W).
        budget_s: seconds to spend, about; a second try for a noisy result is part of them.
    """
    single, many = (
        compare(runner(child, images, threads=1), runner(parent, images, threads=1), budget_s=budget_s / 2)
        for images in (made_up_images(n, image_shape) for n in (1, _BATCH))
    )
    return Latency(
        runtime=version("onnxruntime"),
        threads=1,
        median_ms=1e3 * median(single.child_s),
        p90_ms=1e3 * float(np.quantile(single.child_s, 0.9)),
        images_per_s=_BATCH / median(many.child_s),
        ratio=single.ratio,
        ratio_64=many.ratio,
        noisy=single.noisy or many.noisy,
    )


def made_up_images(n: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return images (N, C, H, W) in [0, 1], always the same: the time does not depend on what they show."""
    return np.random.default_rng(0).random((n, *image_shape), dtype=np.float32)


def compare(child: Run, parent: Run, *, budget_s: float) -> Comparison:
    """Time both in windows of equal length, one call of each in turn; once more if that was noisy.

    Args:
        child: from `runner`.
        parent: the same; what the ratio relates to.
        budget_s: seconds to spend, about, half of them for the second try.
    """
    started = time.perf_counter()
    first = _compare(child, parent, budget_s / 2)
    if not first.noisy or time.perf_counter() - started > budget_s:
        return first
    return _compare(child, parent, budget_s / 2)


def _compare(child: Run, parent: Run, budget_s: float) -> Comparison:
    started = time.perf_counter()
    for run in (child, parent):
        run()  # warm-up: the first call allocates
    once = time.perf_counter() - started
    for run in (child, parent):
        if once < budget_s / 4:
            run()
    windows = [_window(child, parent, budget_s / _WINDOWS) for _ in range(_WINDOWS)]
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
