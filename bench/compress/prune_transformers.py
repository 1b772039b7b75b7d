"""Transformers of any width; heads of attention (Vaswani et al., 2017) lose the same number of dimensions each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.prune_importance import Part, Scorer


class SelfAttention(nn.Module):
    """The attention of vision transformers (Dosovitskiy et al., 2021), reading its widths from its weights.

    timm's own, whose layers it takes over, expects heads as wide as the token divided by their number.
    """

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.num_heads, self.scale = old.num_heads, old.scale
        self.qkv, self.q_norm, self.k_norm = old.qkv, old.q_norm, old.k_norm
        self.attn_drop, self.proj, self.proj_drop = old.attn_drop, old.proj, old.proj_drop

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, C) to (N, T, C)."""
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, dropout_p=dropout, scale=self.scale)
        result: Tensor = self.proj_drop(self.proj(x.transpose(1, 2).reshape(n, tokens, -1)))
        return result


class CrossCovarianceAttention(nn.Module):
    """The attention between channels of XCiT (El-Nouby et al., 2021), reading its widths from its weights."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.num_heads, self.temperature = old.num_heads, old.temperature
        self.qkv, self.attn_drop, self.proj, self.proj_drop = old.qkv, old.attn_drop, old.proj, old.proj_drop

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, C) to (N, T, C)."""
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 4, 1).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        x = self.attn_drop(scores.softmax(dim=-1)) @ v
        result: Tensor = self.proj_drop(self.proj(x.permute(0, 3, 1, 2).reshape(n, tokens, -1)))
        return result


class ClassAttention(nn.Module):
    """The attention of one class token to all tokens (Touvron et al., 2021), reading its widths from its weights."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.num_heads, self.scale = old.num_heads, old.scale
        self.q, self.k, self.v = old.q, old.k, old.v
        self.attn_drop, self.proj, self.proj_drop = old.attn_drop, old.proj, old.proj_drop

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, C), the class token first, to a new class token (N, 1, C)."""
        n, tokens, _ = x.shape
        q = self.q(x[:, :1]).reshape(n, 1, self.num_heads, -1).transpose(1, 2)
        k, v = (layer(x).reshape(n, tokens, self.num_heads, -1).transpose(1, 2) for layer in (self.k, self.v))
        dropout = self.attn_drop.p if self.training else 0.0
        token = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=self.scale)
        result: Tensor = self.proj_drop(self.proj(token.transpose(1, 2).reshape(n, 1, -1)))
        return result


class PatchMerging(nn.Module):
    """Four neighbours to one token, in Swin (Liu et al., 2021), as a concatenation that dependencies can be seen in."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.norm, self.reduction = old.norm, old.reduction

    def forward(self, x: Tensor) -> Tensor:
        """Map a map of tokens (N, H, W, C) to (N, ⌈H/2⌉, ⌈W/2⌉, C')."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2)).permute(0, 3, 1, 2)
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.reduction(self.norm(torch.cat(corners, dim=1).permute(0, 2, 3, 1)))
        return result


_FREE = {
    "timm.models.swin_transformer.PatchMerging": PatchMerging,
    "timm.models.vision_transformer.Attention": SelfAttention,
    "timm.models.xcit.XCA": CrossCovarianceAttention,
    "timm.models.cait.ClassAttn": ClassAttention,
}
_WINDOW = "timm.models.swin_transformer.WindowAttention"  # reads its widths from its weights already


def free_widths(model: nn.Module) -> None:
    """Replace, in place, modules of timm that have their width written into them by the same modules without.

    Guarantees:
        The parameters are the same objects under the same names, and the logits are the same.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (free := _FREE.get(_path(child))) is not None:
                setattr(parent, name, free(child).train(child.training))


def _path(module: nn.Module) -> str:
    """Return the full name of a module's class: a comparison that needs no import of timm."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """One of the things that the dimensions of heads are: outputs (dim 0) or inputs (1) of a linear layer."""

    layer: str
    dim: int = 0
    start: int = 0


@dataclass(kw_only=True)
class HeadDims:
    """The dimensions of the heads of one attention module; every head keeps equally many, each its own best.

    Attributes:
        name: the attention's name in the network.
        module: the attention.
        pairs: what has to be removed together.
        score: scores the dimensions.
    """

    name: str
    module: Any
    pairs: tuple[tuple[_Rows, ...], ...]
    score: Scorer
    kind: object = field(default="head dimensions", init=False)

    @property
    def copies(self) -> int:
        """Number of heads."""
        return int(self.module.num_heads)

    @cached_property
    def _tables(self) -> list[Tensor]:
        """One table (heads, width) of scores for each pair."""
        inner = self.module.proj.in_features
        every = torch.arange(inner)
        tables = []
        for pair in self.pairs:
            parts = [
                Part(
                    name=f"{self.name}.{rows.layer}",
                    module=self.module.get_submodule(rows.layer),
                    dim=rows.dim,
                    index=every + rows.start,
                    channel=every,
                )
                for rows in pair
            ]
            scores = self.score(parts, inner)
            assert scores is not None
            tables.append(scores.view(self.copies, -1))
        return tables

    @property
    def scores(self) -> Tensor:
        """The scores of the worst, second worst, … dimension, (width,), averaged over heads."""
        return torch.stack([table.sort(dim=1).values.mean(0) for table in self._tables]).mean(0)

    def keep(self, n: int) -> None:
        """Remove all but `n` dimensions of each head, in place."""
        kept: dict[tuple[str, int], list[Tensor]] = {}
        for pair, table in zip(self.pairs, self._tables, strict=True):
            best = table.topk(n, dim=1).indices.sort(dim=1).values
            index = (best + torch.arange(self.copies).unsqueeze(1) * table.shape[1]).flatten()
            for rows in pair:
                kept.setdefault((rows.layer, rows.dim), []).append(index + rows.start)
        for (name, dim), indices in kept.items():
            layer = self.module.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            _select(layer, dim, torch.cat(indices).sort().values.to(layer.weight.device))
        if hasattr(self.module, "head_dim"):
            self.module.head_dim = n

    def writers(self) -> set[nn.Module]:
        """Return the linear layers whose outputs are the heads' dimensions."""
        return {self.module.get_submodule(rows.layer) for pair in self.pairs for rows in pair if rows.dim == 0}


def head_dims(model: nn.Module, score: Scorer) -> Iterator[HeadDims]:
    """Yield what can be removed from the heads of each attention in a model that has been through `free_widths`."""
    for name, module in model.named_modules():
        pairs: tuple[tuple[_Rows, ...], ...]
        inner: int = getattr(getattr(module, "proj", None), "in_features", 0)
        if isinstance(module, SelfAttention) or _path(module) == _WINDOW:
            if any(True for norm in ("q_norm", "k_norm") for _ in getattr(module, norm, nn.Identity()).parameters()):
                continue  # a norm that all heads share ties their dimensions to each other
            pairs = (
                (_Rows(layer="qkv"), _Rows(layer="qkv", start=inner)),
                (_Rows(layer="qkv", start=2 * inner), _Rows(layer="proj", dim=1)),
            )
        elif isinstance(module, CrossCovarianceAttention):
            pairs = (
                (_Rows(layer="qkv"), _Rows(layer="proj", dim=1)),
                (_Rows(layer="qkv", start=inner), _Rows(layer="qkv", start=2 * inner)),
            )
        elif isinstance(module, ClassAttention):
            pairs = (_Rows(layer="q"), _Rows(layer="k")), (_Rows(layer="v"), _Rows(layer="proj", dim=1))
        else:
            continue
        yield HeadDims(name=name, module=module, pairs=pairs, score=score)


def _select(layer: nn.Linear, dim: int, index: Tensor) -> None:
    """Keep only some outputs (dim 0) or inputs (dim 1) of a linear layer, in place."""
    layer.weight = nn.Parameter(layer.weight.detach().index_select(dim, index))
    if dim == 1:
        layer.in_features = len(index)
        return
    layer.out_features = len(index)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach().index_select(0, index))
