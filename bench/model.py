"""Names of models, and the classifier on trial."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from bench.errors import UsageError
from bench.registry import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

Classifier = Callable[["Tensor"], "Tensor"]
"""Maps images (N, C, H, W) in [0, 1] to logits (N, K)."""

SOURCES = {
    "bench": "our own networks; bench:conv8 and the like are trained on first use",
    "robustbench": "RobustBench's zoo: robustbench:[DATASET/][THREAT/]NAME",
    "timm": "timm's pretrained models: timm:NAME",
    "torchvision": "torchvision's pretrained models: torchvision:NAME",
    "autoattack": "the CIFAR-10 ResNet-18 that ships with AutoAttack: autoattack:resnet18",
    "checkpoint": "weights in a file, checkpoint:FILE@ARCHITECTURE[@NORMALIZATION], or an exported model's FOLDER",
    "python": "your own function that returns an nn.Module: python:FILE.py:FUNCTION (needs --trust)",
    "plugin": "a model that an installed package registered: plugin:PACKAGE/NAME",
}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model's one name, `source:name`."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """Read `"robustbench:Wong2020Fast"`.

        Raises:
            UsageError: no source, an unknown source, or no name.
        """
        source, colon, name = text.partition(":")
        if not colon or not name:
            raise UsageError(f"Expected a model as SOURCE:NAME (for example bench:conv8), got '{text}'.")
        if source not in SOURCES:
            raise UsageError(f"There is no model source '{source}'.{did_you_mean(source, SOURCES)}")
        return cls(source=source, name=name)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model must fit: the data set it classifies and the threat it is chosen or trained for.

    Attributes:
        dataset: the data set's name, "cifar10".
        image_shape: (channels, height, width).
        n_classes: number of logits.
        norm: "Linf" or "L2"; picks the folder of RobustBench's zoo when a name does not.
        eps: radius, for networks that are trained adversarially on first use; None where none will be.
        train: digest of the images and labels that networks are trained on on first use; "" where none will be.
    """

    dataset: str
    image_shape: tuple[int, int, int]
    n_classes: int
    norm: str
    eps: Fraction | None = None
    train: str = ""


def in_double(model: nn.Module) -> nn.Module:
    """Return a copy that computes in float64; a traced network also where its operations name float32 themselves."""
    from torch import float32, float64, fx

    precise = copy.deepcopy(model).double()
    if isinstance(precise, fx.GraphModule):
        for node in precise.graph.nodes:
            node.args, node.kwargs = fx.node.map_aggregate(
                (node.args, node.kwargs), lambda value: float64 if value is float32 else value
            )
        precise.recompile()
    return precise


def grid_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the learned steps of a model's grids: trained like weights, but no weights of the network.

    A quantiser names its own in `grid_parameters`. They are neither decayed (a grid has no reason to be small) nor
    counted among the parameters (a fixed grid has as many numbers).
    """
    held = ((module, name) for module in model.modules() for name in getattr(module, "grid_parameters", ()))
    found = (dict(module.named_parameters(recurse=False)).get(name) for module, name in held)
    return [parameter for parameter in found if parameter is not None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The classifier on trial; each part maps (N, C, H, W) in [0, 1] to (N, K) logits.

    Attributes:
        twin: what gradients go through; equal to `deployed` up to float rounding.
        parent: the model before compression.
        deployed: what a user would run (an int8 ONNX Runtime session, say); it has the last word.
        surrogate: the twin with its activations unrounded, one more source of gradients; None where it rounds none.
        sparse: whether zeros in the twin's weights stay zero while it is trained.
        uncompressed: the parent after fine-tuning that came before any compression; None where there was none.
    """

    twin: nn.Module
    parent: nn.Module
    deployed: Classifier
    surrogate: nn.Module | None = None
    sparse: bool = False
    uncompressed: nn.Module | None = None

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Return a network that is its own twin and parent, and ships as it is."""
        return cls(twin=network, parent=network, deployed=network)

    @property
    def teacher(self) -> nn.Module:
        """The network as it was before it was compressed: fine-tuned, if it was, else the parent itself."""
        return self.parent if self.uncompressed is None else self.uncompressed
