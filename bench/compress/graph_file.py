"""A traced network as data, without pickle: a list of ATen operations that JSON can hold, and named tensors."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import describe, rebuild
from bench.compress.trace import attribute
from bench.errors import UsageError

_PYTHON = {
    f"operator.{function.__name__}": function
    for function in (
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg),
        *(operator.getitem, operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
    )
}
"""Functions on sizes and tuples that torch.export leaves in a graph."""

_CONSTANTS: dict[str, type] = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def write_graph(network: fx.GraphModule) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a traced network as (record, tensors): the record is JSON, the tensors are on the CPU.

    Raises:
        UsageError: it calls something that is neither an ATen operation nor a quantiser.
    """
    nodes: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}  # a tensor used under two names is stored once
    quantizers: dict[str, Any] = {}
    for node in network.graph.nodes:
        entry: dict[str, Any] = {"name": node.name, "op": node.op, "target": str(node.target)}
        if node.op == "get_attr":
            tensor = attribute(network, str(node.target))
            if not isinstance(tensor, Tensor):
                raise UsageError(f"the traced network reads {node.target}, which is no tensor.")
            entry["tensor"] = names.setdefault(id(tensor), str(node.target))
            entry["trained"] = isinstance(tensor, nn.Parameter)
            tensors[entry["tensor"]] = tensor
        elif node.op == "call_module":
            quantizers[str(node.target)] = describe(network.get_submodule(str(node.target)))
        elif node.op == "call_function":
            entry["target"] = _name(node.target)
            _refuse_memory(node.target, node.args, node.kwargs)
        if node.op not in ("placeholder", "get_attr"):
            entry["args"] = _encode(list(node.args))
            entry |= {"kwargs": _encode(dict(node.kwargs))} if node.kwargs else {}
        nodes.append(entry)
    for name in quantizers:
        state = network.get_submodule(name).state_dict()
        tensors |= {f"{name}.{key}": value for key, value in state.items()}
    record = {"nodes": nodes, "quantizers": quantizers, "channels_last": _channels_last(tensors)}
    return record, {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def read_graph(record: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> fx.GraphModule:
    """Return the network that `write_graph` wrote, in eval mode.

    Guarantees:
        Runs no code but ATen operations and the bench's own quantisers; those that touch files, or change a tensor
        that is there, are refused.

    Raises:
        UsageError: something else is asked for, or a tensor is missing.
        KeyError, TypeError, ValueError: the record has another form.
    """
    root = nn.Module()
    for name, description in record["quantizers"].items():
        quantizer = rebuild(description)
        own = {key: tensors[f"{name}.{key}"] for key in quantizer.state_dict()}
        quantizer.load_state_dict(own, strict=True)
        _place(root, name, quantizer)
    graph, nodes, held = fx.Graph(), dict[str, fx.Node](), dict[str, Tensor]()
    for entry in record["nodes"]:
        name, op, target = (_checked(entry[key]) for key in ("name", "op", "target"))
        args, kwargs = (_decode(entry.get(key, {}), nodes, device) for key in ("args", "kwargs"))
        match op:
            case "placeholder":
                nodes[name] = graph.placeholder(target.replace(".", "_"))
            case "get_attr":
                stored = entry["tensor"]
                if stored not in held:
                    value = _laid_out(tensors[stored], record["channels_last"])
                    held[stored] = nn.Parameter(value) if entry["trained"] else value
                if not _has(root, target):  # the scale of a quantiser is there already
                    _place(root, target, held[stored])
                nodes[name] = graph.create_node(op, target, name=name)
            case "call_function" | "call_module":
                called = _function(target) if op == "call_function" else target
                named = {_checked(key): value for key, value in kwargs.items()}
                if op == "call_function":
                    _refuse_memory(called, args, named)
                nodes[name] = graph.create_node(op, called, tuple(args), named, name=name)
            case "output":
                graph.output(args[0])
            case _:
                raise UsageError(f"a graph of operations has no '{op}'.")
    network = fx.GraphModule(root, graph, class_name="Saved")
    graph.lint()
    return network.to(device).eval()


def _checked(name: str) -> str:
    """Let only dotted names pass: torch.fx writes them into the Python source that it runs."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name, re.ASCII):
        raise UsageError(f"expected a dotted name, got {name!r}.")
    return name


def _name(function: Any) -> str:
    """Return the name under which `_function` finds an operation again."""
    if isinstance(function, torch._ops.OpOverload):
        name = str(function)
    else:
        name = next((name for name, known in _PYTHON.items() if known is function), repr(function))
    _function(name)
    return name


def _function(name: str) -> Any:
    """Return the operation called `name`.

    Raises:
        UsageError: it is no ATen operation that computes tensors from tensors, and does nothing else.
    """
    if name in _PYTHON:
        return _PYTHON[name]
    match name.split("."):
        case ["aten", packet, overload]:
            found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
            if isinstance(found, torch._ops.OpOverload) and _computes(found._schema):
                return found
    raise UsageError(f"'{name}' is not an operation that a saved network may use.")


def _computes(schema: Any) -> bool:
    """Whether an operation touches no file, and writes to no tensor that is there: a network must not remember images.

    The one ATen operation that touches files takes the name of one.
    """
    return not schema.is_mutable and "filename" not in {argument.name for argument in schema.arguments}


def _refuse_memory(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise UsageError for a norm that takes its statistics from the images it is shown and keeps them.

    It writes them to its buffers, though its schema does not say so.
    """
    if not isinstance(function, torch._ops.OpOverload):
        return
    given = dict(zip((argument.name for argument in function._schema.arguments), args, strict=False)) | dict(kwargs)
    learning = any(given.get(flag, False) is not False for flag in ("training", "use_input_stats"))
    if learning and given.get("running_mean") is not None:
        raise UsageError(f"'{function}' would keep statistics of the images that it is shown; save it in eval mode.")


def _encode(value: Any) -> Any:
    """Return an argument as JSON: what JSON has no word for becomes a table of one key."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {"table": {key: _encode(item) for key, item in value.items()}}
    if isinstance(value, torch.device):
        return {"device": None}  # it runs where it is loaded
    for kind, python in _CONSTANTS.items():
        if isinstance(value, python):
            return {kind: str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"the traced network passes a {type(value).__name__} to an operation.")


def _decode(value: Any, nodes: dict[str, fx.Node], device: torch.device) -> Any:
    if isinstance(value, list):
        return [_decode(item, nodes, device) for item in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case []:
            return {}
        case [("node", name)]:
            return nodes[name]
        case [("table", table)]:
            return {key: _decode(item, nodes, device) for key, item in table.items()}
        case [("device", _)]:
            return device
        case [(kind, name)] if kind in _CONSTANTS and isinstance(found := getattr(torch, name, None), _CONSTANTS[kind]):
            return found
    raise UsageError(f"{value} is no argument of an operation.")


def _channels_last(tensors: dict[str, Tensor]) -> bool:
    filters = [tensor for tensor in tensors.values() if tensor.dim() == 4 and not tensor.is_contiguous()]
    return any(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in filters)


def _laid_out(tensor: Tensor, channels_last: bool) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if channels_last and tensor.dim() == 4 else tensor


def _has(root: nn.Module, path: str) -> bool:
    try:
        attribute(root, path)
    except AttributeError:
        return False
    return True


def _place(root: nn.Module, path: str, value: nn.Module | Tensor) -> None:
    """Put a tensor or a module where a dotted path says."""
    parent, _, name = _checked(path).rpartition(".")
    for part in parent.split(".") if parent else []:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(value, nn.Module):
        root.add_module(name, value)
    elif isinstance(value, nn.Parameter):
        root.register_parameter(name, value)
    else:
        root.register_buffer(name, value)
