"""A network as the ONNX file a user ships: float, or with int8 weights and integer layers."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer, quantize_weight
from bench.compress.trace import any_batch
from bench.machine.onnx_session import open_session

_OPSET = 18
# Where each operator of ONNX and ONNX Runtime keeps its weight.
_FLOAT_LAYERS = {"Conv": 1, "FusedConv": 1, "Gemm": 1, "FusedGemm": 1, "MatMul": 1, "FusedMatMul": 1}
_INTEGER_LAYERS = {"QLinearConv": 3, "ConvInteger": 1, "QGemm": 3, "QLinearMatMul": 3, "MatMulInteger": 1}
_INTEGER_LAYERS |= {"MatMulIntegerToFloat": 1}


class _QuantizeDequantize(nn.Module):
    """An activation quantiser as the pair of ONNX nodes that a runtime turns into integer arithmetic."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.register_buffer("scale", quantizer.step.detach().clone())
        self.register_buffer("zero_point", quantizer.zero_point.detach().to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        grid = (self.scale, self.zero_point)
        level = _symbolic("QuantizeLinear", (x, *grid), dtype=torch.uint8, shape=x.shape)
        return _symbolic("DequantizeLinear", (level, *grid), dtype=torch.float32, shape=x.shape)


class _Stored(nn.Module):
    """A weight (int8) or a bias (int32) as integers in the file, with one scale for each output channel."""

    def __init__(self, values: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        step = scale.view(-1, *[1] * (values.dim() - 1))
        self.register_buffer("levels", torch.round(values / step).to(dtype))
        self.register_buffer("scale", scale.clone())
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=dtype))

    def forward(self) -> Tensor:
        shape = self.levels.shape
        inputs = (self.levels, self.scale, self.zero_point)
        return _symbolic("DequantizeLinear", inputs, {"axis": 0}, dtype=torch.float32, shape=shape)


def _symbolic(operator: str, inputs: Any, attributes: dict[str, Any] | None = None, **result: Any) -> Tensor:
    return torch.onnx.ops.symbolic(operator, inputs, attributes or {}, version=_OPSET, **result)


def integer_form(twin: fx.GraphModule, image_shape: tuple[int, int, int]) -> fx.GraphModule:
    """Return the twin, on the CPU, with its quantisers replaced by ONNX nodes on stored integers."""
    twin = copy.deepcopy(twin).cpu().eval()
    replacements: dict[str, nn.Module] = {}
    with _arguments_of_quantizers(twin) as seen, torch.no_grad():
        twin(torch.rand(2, *image_shape))
    fitted = _fitted(twin, seen)
    for name, module in twin.named_modules():
        if isinstance(module, ActivationQuantizer):
            replacements[name] = _QuantizeDequantize(module)
        elif isinstance(module, WeightQuantizer):
            (weight,) = seen[module]
            step = fitted.get(module, module.step(weight)).detach()
            replacements[name] = _Stored(quantize_weight(weight, module.bits, step).detach(), step, torch.int8)
        elif isinstance(module, BiasQuantizer):
            bias, weight, input_scale = seen[module]
            # The very expression of the twin: bias / scale, once.
            replacements[name] = _Stored(bias.detach(), module.step(bias, weight, input_scale), torch.int32)
    for name, module in replacements.items():
        twin.set_submodule(name, module)
    for node in twin.graph.nodes:
        if node.op == "call_module" and isinstance(twin.get_submodule(node.target), _Stored):
            node.args = ()
    twin.graph.eliminate_dead_code()
    return fx.GraphModule(twin, twin.graph).eval()


def _fitted(twin: fx.GraphModule, seen: dict[nn.Module, tuple[Tensor, ...]]) -> dict[nn.Module, Tensor]:
    """Return weight quantiser → the steps of its grids that its layer's bias fits, where that is on a grid."""
    modules = {node: twin.get_submodule(str(node.target)) for node in twin.graph.nodes if node.op == "call_module"}
    steps: dict[nn.Module, Tensor] = {}
    for layer in twin.graph.nodes:
        called = [modules[source] for source in layer.all_input_nodes if source in modules]
        weights = [module for module in called if isinstance(module, WeightQuantizer)]
        for bias in called:
            if isinstance(bias, BiasQuantizer):
                steps |= dict.fromkeys(weights, bias.weight_step(*seen[bias]))
    return steps


@contextlib.contextmanager
def _arguments_of_quantizers(twin: nn.Module) -> Iterator[dict[nn.Module, tuple[Tensor, ...]]]:
    """Record what weight and bias quantisers are given, be it a parameter or computed from some."""
    seen: dict[nn.Module, tuple[Tensor, ...]] = {}

    def record(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[module] = arguments

    kinds = (WeightQuantizer, BiasQuantizer)
    hooks = [module.register_forward_pre_hook(record) for module in twin.modules() if isinstance(module, kinds)]
    yield seen
    for hook in hooks:
        hook.remove()


def to_onnx(model: nn.Module, image_shape: tuple[int, int, int]) -> bytes:
    """Return the network as one self-contained ONNX file with a free batch size.

    Raises:
        Exception: whatever the exporter says about a network that it cannot follow.
    """
    model = copy.deepcopy(model).cpu().eval()
    batch = any_batch()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            tempfile.TemporaryDirectory() as folder,
        ):
            warnings.simplefilter("ignore")
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                model,
                (torch.rand(2, *image_shape),),
                path,
                dynamo=True,
                opset_version=_OPSET,
                external_data=False,
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
            return _tidy(path.read_bytes())
    finally:
        logging.disable(level)


def _tidy(data: bytes) -> bytes:
    """Drop the exporter's notes (stack traces of every node), and give each stored weight a zero point of its own.

    ONNX Runtime fails to load a file in which two weights share one, once `session.x64quantprecision` is on.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            own = graph.initializer.add()
            own.CopyFrom(stored[node.input[2]])
            own.name = node.input[2] = f"{node.input[0]}.zero_point"
    used = {name for node in graph.node for name in node.input}
    kept = {tensor.name: tensor for tensor in graph.initializer if tensor.name in used}
    del graph.initializer[:]
    graph.initializer.extend(kept.values())
    return bytes(model.SerializeToString())


def integer_share(data: bytes) -> float:
    """Return the share of the MACs of convolutions and linears that ONNX Runtime does in integers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(data, 1, path)
        graph = onnx.load(path).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    integer = total = 0
    for node in graph.node:
        kind = _INTEGER_LAYERS.get(node.op_type, _FLOAT_LAYERS.get(node.op_type))
        if kind is None or (weight := weights.get(node.input[kind])) is None:
            continue
        macs = math.prod(weight) * _positions(node.op_type, weight, shapes.get(node.output[0], []))
        total += macs
        integer += macs if node.op_type in _INTEGER_LAYERS else 0
    return integer / total if total else 0.0


def _positions(operator: str, weight: list[int], output: list[int]) -> int:
    """Return how often a weight is applied to one image, from the output's shape (batch first)."""
    channels = weight[0] if "Conv" in operator else (weight[-1] if len(output) > 2 else 0)
    return max(math.prod(output[1:]) // channels, 1) if channels and len(output) > 2 else 1
