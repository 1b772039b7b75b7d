"""An ONNX file opened in ONNX Runtime, in one way for what is judged and what is timed."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from bench.provenance import has_vnni


def open_session(data: bytes, threads: int, optimized: Path | None = None) -> ort.InferenceSession:
    """Open an ONNX file in ONNX Runtime on the CPU; write the graph it optimised to `optimized` if given."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not has_vnni():
        # int8 weights times uint8 activations overflow 16 bits, and logits go wrong without a word. With VNNI they do
        # not, and the setting would cost a factor of three.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized is not None:
        # Layouts for one kind of CPU come after this level; what is integer is settled by then.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
