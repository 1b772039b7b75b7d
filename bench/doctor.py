"""What is installed, which data sets are found, and what this machine can do."""

from __future__ import annotations

import os
from importlib.util import find_spec

from bench.files import cache_dir, data_dir, offline
from bench.provenance import installed, machine

OPTIONAL = {"openvino": "a second int8 runtime", "matplotlib": "bench plot, and the figure of a sweep"}


def diagnose() -> dict[str, list[tuple[str, str]]]:
    """Return findings by title, each a list of (name, fact)."""
    import onnxruntime
    import torch

    from bench.load.datasets import dataset_names, find_dataset

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "packages": list(installed().items())
        + [(name, "installed" if find_spec(name) else f"not installed ({use})") for name, use in OPTIONAL.items()],
        "data sets": [(name, find_dataset(name)) for name in dataset_names()],
        "folders": [
            ("BENCH_DATA_DIR", str(data_dir() or "not set: only digits, and what can be downloaded")),
            (
                "BENCH_WEIGHTS_DIR",
                os.environ.get("BENCH_WEIGHTS_DIR") or "not set",
            ),
            ("BENCH_CACHE_DIR", str(cache_dir())),
            ("BENCH_OFFLINE", "downloads are forbidden" if offline() else "downloads are allowed"),
        ],
        "machine": [
            ("processor", machine()),
            ("threads", f"{torch.get_num_threads()} (torch), {os.cpu_count()} cores"),
            ("int8 runtime", f"onnxruntime {onnxruntime.__version__} on the CPU"),
            ("CUDA", ", ".join(cuda) or "none: evaluations run on the CPU"),
        ],
    }
