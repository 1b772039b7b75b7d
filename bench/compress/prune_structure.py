"""What of a network can be removed together: channels tied to each other (DepGraph, Fang et al., 2023)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bench.compress.prune_importance import Part, Scorer
from bench.compress.prune_transformers import HeadDims, head_dims

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses a part of torch that is deprecated
    import torch_pruning as tp

_WRITES = {tp.prune_conv_out_channels, tp.prune_linear_out_channels}
_READS = {tp.prune_conv_in_channels, tp.prune_linear_in_channels}
_NORMS = {tp.prune_batchnorm_out_channels, tp.prune_layernorm_out_channels}


class Unit(Protocol):
    """Channels that can be removed without a thought for the rest of the network."""

    @property
    def kind(self) -> object:
        """Equal for units of the same structure, whose scores can be compared."""
        ...

    @property
    def copies(self) -> int:
        """In how many places one channel is removed at once (groups of a convolution, heads of an attention)."""
        ...

    @property
    def scores(self) -> Tensor:
        """What each channel is worth, (width,), on the CPU."""
        ...

    def keep(self, n: int) -> None:
        """Remove all but the best `n` channels, in place."""
        ...


@dataclass(frozen=True, kw_only=True)
class Removed:
    """Inputs or outputs that a layer lost.

    Attributes:
        layer: its name in the model.
        index: their indices before.
    """

    layer: str
    index: tuple[int, ...]


@dataclass(kw_only=True)
class ChannelGroup:
    """Outputs of one or more layers that are added, concatenated or otherwise tied, and what reads them."""

    graph: Any
    root: nn.Module
    remover: Any
    kind: object
    copies: int
    scores: Tensor
    removed: list[Removed] = field(default_factory=list)
    silenced: list[Removed] = field(default_factory=list)

    def keep(self, n: int) -> None:
        """Remove all but the best `n` channels, and note which inputs (`removed`) and outputs (`silenced`) went."""
        worst = self.scores.topk(len(self.scores) - n, largest=False).indices
        places = torch.cat([worst + copy * len(self.scores) for copy in range(self.copies)])
        group = self.graph.get_pruning_group(self.root, self.remover, places.sort().values.tolist())
        names = self.graph._module2name
        for dep, index in group:
            for handlers, lost in ((_READS, self.removed), (_WRITES, self.silenced)):
                if dep.handler in handlers:
                    lost.append(Removed(layer=names[dep.target.module], index=tuple(index)))
        norms = [(dep.target.module, index) for dep, index in group if isinstance(dep.target.module, nn.LayerNorm)]
        affine = [_without(norm, index) for norm, index in norms]
        group.prune()
        for (norm, _), (weight, bias) in zip(norms, affine, strict=True):
            # torch-pruning (1.6.1) keeps these in the order of a Python set, which is not always ascending.
            norm.weight, norm.bias = weight, bias  # type: ignore[assignment]
        width = self.graph.get_out_channels(self.root)
        if width != n * self.copies:
            raise RuntimeError(f"{names[self.root]} has {width} channels where {n * self.copies} were expected")


def _without(norm: nn.LayerNorm, index: list[int]) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """Return the scales and the shifts of a norm that lost some channels."""
    left = torch.ones(norm.normalized_shape[-1], dtype=torch.bool)
    left[index] = False

    def select(values: Tensor | None) -> nn.Parameter | None:
        return None if values is None else nn.Parameter(values.detach()[..., left.to(values.device)])

    return select(norm.weight), select(norm.bias)


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What can be removed from a network.

    Attributes:
        channels: groups of channels.
        dims: dimensions of attention heads.
        classifiers: the layers that put out the logits, whose outputs nobody may remove.
    """

    channels: tuple[ChannelGroup, ...]
    dims: tuple[HeadDims, ...]
    classifiers: tuple[nn.Module, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """All of it."""
        return (*self.channels, *self.dims)


def analyse(model: nn.Module, images: Tensor, score: Scorer, *, inside: bool) -> Structure:
    """Find what can be removed from a network.

    Args:
        model: has been through `free_widths`; every parameter asks for a gradient, which is what the search follows.
        images: (n ≥ 2, C, H, W).
        score: scores channels.
        inside: leave alone what several layers write to (residual streams).
    """
    dims = tuple(head_dims(model, score))
    fixed = {layer for heads in dims for layer in heads.writers()}
    with torch.enable_grad():
        # Multiplied, so that the graph's last operation is never the classifier itself.
        graph = tp.DependencyGraph().build_dependency(
            model, example_inputs=(images,), output_transform=lambda logits: logits * 1.0, verbose=False
        )
    channels: list[ChannelGroup] = []
    classifiers: list[nn.Module] = []
    for group in _groups(graph, tolerant=inside):
        writers = {dep.target.module for dep, _ in group if dep.handler in _WRITES}
        if any(dep.target.type == tp.ops.OPTYPE.OUTPUT for dep, _ in group):
            classifiers += writers
        elif writers & fixed or (inside and len(writers) != 1):
            continue
        elif (unit := _unit(graph, group, score)) is not None:
            channels.append(unit)
    return Structure(channels=tuple(channels), dims=dims, classifiers=tuple(classifiers))


def _groups(graph: Any, *, tolerant: bool) -> Iterator[Any]:
    """Yield each group of channels once; where `tolerant`, without those that cannot be followed."""
    seen: set[nn.Module] = set()
    for layer in list(graph.module2node):
        if layer in seen or not isinstance(layer, _ConvNd | nn.Linear):
            continue
        pruner = graph.get_pruner_of_module(layer)
        try:
            group = graph.get_pruning_group(
                layer, pruner.prune_out_channels, list(range(pruner.get_out_channels(layer)))
            )
        except Exception:  # torch-pruning raises whatever its index arithmetic runs into
            if not tolerant:
                raise
            continue
        seen |= {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}
        yield group


def _unit(graph: Any, group: Any, score: Scorer) -> ChannelGroup | None:
    """Return a group with its scores, or None where it has no channel to spare."""
    root, remover = group[0].dep.target.module, group[0].dep.handler
    width = len(group[0].idxs)
    parts, copies, kind = [], 1, []
    for item in group:
        module, handler = item.dep.target.module, item.dep.handler
        writes = graph.is_out_channel_pruning_fn(handler)
        kind.append((type(module), writes))
        copies = max(copies, _copies(graph, module, writes=writes))
        if handler in _WRITES | _READS | _NORMS and None not in item.root_idxs:
            index, channel = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
            name = graph._module2name[module]
            parts.append(Part(name=name, module=module, dim=int(handler in _READS), index=index, channel=channel))
    scores = score(parts, width)
    if scores is None or width // copies < 2:
        return None
    return ChannelGroup(
        graph=graph,
        root=root,
        remover=remover,
        kind=tuple(kind),
        copies=copies,
        scores=scores.view(copies, -1).mean(0),
    )


def _copies(graph: Any, module: nn.Module, *, writes: bool) -> int:
    """Return the number of groups that a module divides its channels into; depthwise convolutions divide nothing."""
    if isinstance(module, _ConvNd) and module.groups == module.out_channels:
        return 1
    pruner = graph.get_pruner_of_module(module)
    return int(pruner.get_out_channel_groups(module) if writes else pruner.get_in_channel_groups(module))
