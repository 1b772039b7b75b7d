"""A compressed model as a folder: `model.safetensors` and a plan that people can read. No pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from bench.compress.fake_quant import ActivationQuantizer, WeightQuantizer
from bench.compress.graph_file import read_graph, write_graph
from bench.compress.norms import settle_norms
from bench.compress.trace import attribute, operation, trace
from bench.errors import MissingError, UsageError
from bench.files import atomic, write_text

PLAN, TENSORS = "plan.json", "model.safetensors"
_FORMAT = 1
_LAYERS = ("conv1d", "conv2d", "linear")


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A model as it came back from its folder.

    Attributes:
        network: what was saved, in eval mode.
        image_shape: (C, H, W).
        about: what whoever saved it wrote into the plan.
        digest: sha256 of graph and tensors; names exactly this model, however and whenever it was made.
    """

    network: fx.GraphModule
    image_shape: tuple[int, int, int]
    about: dict[str, Any]
    digest: str


def seal(model: nn.Module, image_shape: tuple[int, int, int], about: dict[str, Any], folder: Path) -> None:
    """Save a model, so that `unseal` gives the same logits in another process, on another machine.

    Args:
        model: a float network, or a twin; left as it is.
        image_shape: (C, H, W).
        about: JSON; for people and for whoever opens it.
        folder: replaced file by file, the plan last: a folder with a plan is a whole one.

    Raises:
        UsageError: torch.export cannot follow the network.
        MissingError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    model = settle_norms(model)
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    traced = isinstance(model, fx.GraphModule) and any(operation(node) for node in model.graph.nodes)
    network = model if isinstance(model, fx.GraphModule) and traced else trace(model, image_shape, device)
    graph, tensors = write_graph(network)
    with atomic(folder / TENSORS) as temporary:
        save_file(tensors, temporary)
    plan = {
        "format": _FORMAT,
        "about": about,
        "image_shape": list(image_shape),
        "layers": _layers(network),
        TENSORS: hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest(),
        "graph": graph,
    }
    write_text(folder / PLAN, _readable(plan))


def unseal(folder: Path, device: torch.device) -> Sealed:
    """Load a model that `seal` saved.

    Guarantees:
        Nothing in the folder is executed; only ATen operations and the bench's own quantisers run.

    Raises:
        MissingError: no such folder, or a file of it is absent.
        UsageError: a file is truncated, does not belong to the other, or says something a plan cannot say.
    """
    from safetensors.torch import load

    for name in (PLAN, TENSORS):
        if not (folder / name).is_file():
            raise MissingError(f"Expected a compressed model in {folder}: {PLAN} and {TENSORS}; {name} is not there.")
    data = (folder / TENSORS).read_bytes()
    text = (folder / PLAN).read_text(encoding="utf-8", errors="replace")
    try:
        plan = json.loads(text)
        if plan["format"] != _FORMAT:
            raise UsageError(f"this bench reads format {_FORMAT}, not {plan['format']!r}.")
        if hashlib.sha256(data).hexdigest() != plan[TENSORS]:
            raise UsageError(
                f"{TENSORS} is not the file that the plan was written for: one of them was cut or changed."
            )
        network = read_graph(plan["graph"], load(data), device)
        channels, height, width = map(int, plan["image_shape"])
    except UsageError as error:
        raise UsageError(f"Cannot load the compressed model in {folder}: {error} Export it again.") from error
    except Exception as error:  # a plan that somebody edited may fail anywhere
        raise UsageError(
            f"Cannot load the compressed model in {folder}: {PLAN} is damaged ({type(error).__name__}: {error}). "
            "Export it again."
        ) from error
    return Sealed(network=network, image_shape=(channels, height, width), about=plan["about"], digest=_digest(plan))


def digest_of(folder: Path) -> str:
    """Return the digest of the model in a folder, by which an entry names it.

    Raises:
        ValueError, KeyError: its plan is damaged.
    """
    return _digest(json.loads((folder / PLAN).read_text(encoding="utf-8")))


def _digest(plan: dict[str, Any]) -> str:
    decisive = [plan["image_shape"], plan["graph"], plan[TENSORS]]  # the last is itself a digest
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def is_sealed(folder: Path) -> bool:
    """Whether a folder holds a whole saved model."""
    return (folder / PLAN).is_file() and (folder / TENSORS).is_file()


def _layers(network: fx.GraphModule) -> list[dict[str, Any]]:
    """Return what is worth reading of each convolution and linear layer: its shape, bits, grids and zeros."""
    return [_layer(network, node) for node in network.graph.nodes if operation(node) in _LAYERS]


def _layer(network: fx.GraphModule, node: fx.Node) -> dict[str, Any]:
    record: dict[str, Any] = {"name": node.name, "kind": operation(node)}
    source, weight = node.args[0], node.args[1]
    if (reader := _quantizer(network, source)) is not None and isinstance(reader, ActivationQuantizer):
        record["input"] = {"bits": reader.bits, "scale": float(reader.scale), "zero_point": int(reader.zero_point)}
    if (grid := _quantizer(network, weight)) is not None and isinstance(grid, WeightQuantizer):
        record["weight_bits"] = grid.bits
        weight = weight.args[0]  # type: ignore[union-attr]
    if isinstance(weight, fx.Node) and weight.op == "get_attr":
        tensor = attribute(network, str(weight.target))
        record |= {"weight": weight.target, "shape": list(tensor.shape)}
        if zeros := int((tensor == 0).sum()):
            record["zeros"] = zeros
    return record


def _quantizer(network: fx.GraphModule, node: Any) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None


def _readable(plan: dict[str, Any]) -> str:
    """Return JSON with a line for each layer and each operation: for people, and for diffs."""
    lines = []
    for key, value in plan.items():
        text = json.dumps(value)
        if key == "layers":
            text = "[\n  " + ",\n  ".join(json.dumps(layer) for layer in value) + "\n ]"
        elif key == "graph":
            parts = [f'"{part}": {json.dumps(inner)}' for part, inner in value.items() if part != "nodes"]
            nodes = ",\n   ".join(json.dumps(node) for node in value["nodes"])
            text = "{\n  " + ",\n  ".join([*parts, f'"nodes": [\n   {nodes}\n  ]']) + "\n }"
        lines.append(f' "{key}": {text}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
