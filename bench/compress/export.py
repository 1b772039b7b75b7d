"""What a user would run: the deployed artefact, its classifier, and how far it agrees with the twin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import ActivationQuantizer, WeightQuantizer, is_quantized
from bench.compress.norms import settle_norms
from bench.compress.onnx_graph import integer_form, integer_share, to_onnx
from bench.entry import Agreement
from bench.errors import described
from bench.machine.onnx_session import open_session
from bench.model import in_double

if TYPE_CHECKING:
    from bench.model import Classifier, Subject

Kind = Literal["onnx-int8", "onnx-float32", "torch", "simulated"]


class OnnxClassifier:
    """An ONNX file in ONNX Runtime on the CPU; gives its logits on the device the images came from."""

    def __init__(self, data: bytes, threads: int = 1) -> None:
        self._data, self._threads = data, threads
        self._session = open_session(data, threads)
        self._input = self._session.get_inputs()[0].name

    def __reduce__(self) -> tuple[type[OnnxClassifier], tuple[bytes, int]]:
        """Travel to another process as the file; a session cannot."""
        return OnnxClassifier, (self._data, self._threads)

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, C, H, W) in [0, 1]."""
        pixels = images.detach().to("cpu", torch.float32).contiguous().numpy()
        (logits,) = self._session.run(None, {self._input: pixels})
        return torch.from_numpy(logits).to(images.device)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The deployed model.

    Attributes:
        kind: "onnx-int8": integer kernels; "onnx-float32": nothing is quantised; "torch": a float model that
            ONNX cannot express; "simulated": quantised to bits that no runtime has kernels for.
        classifier: has the last word on each image: the ONNX Runtime session at int8, else the twin itself.
        data: the file a user ships; empty when simulated.
        n_bytes: its size; when simulated, that of weights packed to their bits, plus 4 for each other number.
        integer_macs_share: share of the MACs of convolutions and linears done in integers; None unless int8.
        note: why a float model is not ONNX; else empty.
    """

    kind: Kind
    classifier: Classifier
    data: bytes
    n_bytes: int
    integer_macs_share: float | None
    note: str = ""


def deploy(subject: Subject, image_shape: tuple[int, int, int], *, threads: int = 1) -> Artefact:
    """Turn a subject's twin into what a user would run.

    Args:
        subject: its twin is read and left as it is.
        image_shape: (C, H, W).
        threads: for ONNX Runtime, inside one operator.
    """
    twin = settle_norms(subject.twin)
    if not is_quantized(twin):
        return _deploy_float(twin, image_shape)
    bits = {module.bits for module in twin.modules() if isinstance(module, ActivationQuantizer | WeightQuantizer)}
    if bits != {8} or not isinstance(twin, fx.GraphModule):
        return Artefact(
            kind="simulated",
            classifier=twin,
            data=b"",
            n_bytes=packed_bytes(twin, image_shape),
            integer_macs_share=None,
        )
    data = to_onnx(integer_form(twin, image_shape), image_shape)
    return Artefact(
        kind="onnx-int8",
        classifier=OnnxClassifier(data, threads),
        data=data,
        n_bytes=len(data),
        integer_macs_share=integer_share(data),
    )


def _deploy_float(model: nn.Module, image_shape: tuple[int, int, int]) -> Artefact:
    """Ship a float model as ONNX, or as safetensors where the exporter cannot follow it."""
    kind: Kind = "onnx-float32"
    note = ""
    try:
        data = to_onnx(model, image_shape)
    except Exception as error:  # the exporter raises a dozen kinds
        from safetensors.torch import save

        kind, note = "torch", f"ONNX export failed: {described(error)}"
        data = save({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})
    return Artefact(
        kind=kind,
        classifier=model,
        data=data,
        n_bytes=len(data),
        integer_macs_share=None,
        note=note,
    )


def packed_bytes(twin: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Return the size of a simulated model: weights packed to their bits, 4 bytes for every other number it needs.

    The other numbers are a scale for each output channel, scale and zero point of each activation, biases, batch-norms.
    """
    weights: dict[Tensor, tuple[int, int, int]] = {}  # a layer that is used twice has one

    def record(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        weight = arguments[0]
        assert isinstance(module, WeightQuantizer)
        weights[weight] = (weight.numel(), weight.shape[0], module.bits)

    quantizers = [module for module in twin.modules() if isinstance(module, WeightQuantizer)]
    hooks = [module.register_forward_pre_hook(record) for module in quantizers]
    with torch.no_grad():
        parameter = next(twin.parameters())
        twin(torch.rand(2, *image_shape).to(parameter.device))
    for hook in hooks:
        hook.remove()
    # A scale that a weight quantiser keeps is one of these, and not counted again among the other numbers.
    packed = sum(math.ceil(count * bits / 8) + 4 * channels for count, channels, bits in weights.values())
    numbers = sum(tensor.numel() for tensor in {*twin.parameters(), *twin.buffers()})
    kept = sum(module.scale.numel() for module in quantizers if module.scale is not None)
    return packed + 4 * (numbers - kept - sum(count for count, _, _ in weights.values()))


def agreement(twin: nn.Module, deployed: Classifier, images: Tensor, *, batch: int = 64) -> Agreement:
    """Compare the twin with the deployed model on the same images, (N, C, H, W) in [0, 1], on the twin's device.

    Images on which any answer is not finite count where classes are compared, not where distances are.
    """
    precise = in_double(twin)
    with torch.no_grad():
        parts = images.split(batch)
        ours = torch.cat([twin(part).double() for part in parts])
        theirs = torch.cat([deployed(part).double() for part in parts])
        try:
            exact = torch.cat([precise(part.double()) for part in parts])
        except RuntimeError:  # a network that insists on float32: nobody knows its rounding, so none is granted
            exact = ours
    same = (ours.argmax(1) == theirs.argmax(1)).double().mean()
    finite = torch.stack([answers.isfinite().all(1) for answers in (ours, theirs, exact)]).all(0)
    ours, theirs, exact = ours[finite], theirs[finite], exact[finite]
    size = (ours - ours.mean(0)).norm().clamp_min(1e-12)
    return Agreement(
        n=len(images),
        top1=float(same),
        gap=float((ours - theirs).norm() / size),
        noise=float((ours - exact).norm() / size),
    )
