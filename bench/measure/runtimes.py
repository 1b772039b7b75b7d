"""An ONNX file in a runtime, ready to be timed: ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata, util
from typing import Literal

import numpy as np

from bench.errors import MissingError
from bench.machine.onnx_session import open_session

Run = Callable[[], None]
"""Predicts once, on images it holds."""

Runtime = Literal["onnxruntime", "openvino"]


def available() -> list[Runtime]:
    """Return the runtimes for ONNX files that this machine has."""
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "openvino")
    return [runtime for runtime in runtimes if util.find_spec(runtime)]


def version(runtime: Runtime) -> str:
    """Return "onnxruntime 1.31.1"."""
    return f"{runtime} {metadata.version(runtime)}"


def runner(model: bytes, images: np.ndarray, *, threads: int, runtime: Runtime = "onnxruntime") -> Run:
    """Return a function that runs the model once.

    Args:
        model: an ONNX file.
        images: (N, C, H, W) in [0, 1], float32.
        threads: inside one operator.
        runtime: one that is installed.

    Raises:
        MissingError: the runtime is not installed.
    """
    return _in_openvino(model, images, threads) if runtime == "openvino" else _in_onnxruntime(model, images, threads)


def _in_onnxruntime(data: bytes, images: np.ndarray, threads: int) -> Run:
    session = open_session(data, threads)
    feed = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, feed)


def _in_openvino(data: bytes, images: np.ndarray, threads: int) -> Run:
    try:
        import openvino
    except ImportError as error:
        raise MissingError("OpenVINO is not installed: pip install 'bench[openvino]'.") from error
    core = openvino.Core()
    model = core.read_model(data, b"")
    model.reshape(list(images.shape))
    # Its "float32" is bfloat16 by default where the processor has that.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run() -> None:
        request.infer([images], share_inputs=True, share_outputs=True)

    return run
