"""Where quantisers go in a traced network: the twin of what an integer runtime computes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from bench.compress.fake_quant import ActivationQuantizer, WeightQuantizer
from bench.compress.norms import norm_after, quantize_bias
from bench.compress.ranges import MinMax, Ranges
from bench.compress.trace import attribute, operation
from bench.errors import UsageError

_LAYERS = {"conv2d", "linear"}
_RELUS = {"relu", "relu6", "hardtanh"}  # fused with the layer before: the grid goes after them
_JOINS = {"add", "mul", "cat"}
_POOLS = {"avg_pool2d", "adaptive_avg_pool2d", "mean"}
KEEP_GRID = {  # values are moved or dropped, never changed: the grid before holds after
    *("max_pool2d", "flatten", "view", "reshape", "_unsafe_view", "permute", "transpose", "slice", "select"),
    *("contiguous", "clone", "squeeze", "unsqueeze", "expand", "channel_shuffle", "pixel_unshuffle"),
}
_MOVES = KEEP_GRID | {"pad", "constant_pad_nd"}  # what they add is 0 as a rule, which is on every grid
_NORMALIZES = {"add", "sub", "rsub", "mul", "div", "batch_norm", "clamp", "neg", "to", "_to_copy"}
_TRANSFORMERS = {"scaled_dot_product_attention", "softmax", "layer_norm", "native_layer_norm"}

PIXEL_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Bits:
    """How many bits each tensor gets.

    Attributes:
        weight: for weights.
        activation: for inputs of layers.
        first_last: for weights and inputs of the first and the last layer, if they differ.
    """

    weight: int
    activation: int
    first_last: int | None

    @property
    def integer(self) -> bool:
        """Whether a runtime has integer kernels for all of it."""
        return {self.weight, self.activation, self.first_last or 8} == {8}


def insert_quantizers(traced: fx.GraphModule, bits: Bits, ranges: Ranges) -> fx.GraphModule:
    """Return the traced network with quantisers, those of activations still transparent; `traced` is used up.

    Inputs and weights of convolutions and linears are quantised. At W8A8, when the result will run as integers, so are
    their outputs and those of additions and poolings, or the runtime would fall back to float between them.
    Transformers keep their residual stream in float: quantising it costs XCiT .87 of its logits, against .05.
    Logits stay float. The image itself is on the grid 1/255: that is how pixels arrive.

    Args:
        traced: from `trace`, its norms folded or kept.
        bits: how many bits each tensor gets.
        ranges: how ranges and scales are found.

    Raises:
        UsageError: the network has no convolution and no linear.
    """
    placement = _Placement(traced, bits)
    device = next(traced.parameters()).device
    # All decided before the first insertion, which changes who reads what.
    plan = {source: (placement.activation_bits(source), placement.pixelwise(source)) for source in placement.sources}
    for source, (width, pixels) in plan.items():
        observer = MinMax() if pixels else ranges.observer(width)
        quantizer = ActivationQuantizer(width, observer, pixels=pixels, learned=ranges.learned)
        traced.add_submodule(f"quantizers.{source.name}", quantizer.to(device))
    for node, source in placement.grids.items():
        _insert_after(traced.graph, node, f"quantizers.{source.name}")
    for layer in placement.layers:
        _quantize_parameters(traced, layer, placement.layer_bits(layer), ranges)
    traced.graph.eliminate_dead_code()
    traced.graph.lint()
    return fx.GraphModule(traced, traced.graph, class_name="Twin").eval()


class _Placement:
    """Decides which tensors of a graph are quantised, and to how many bits."""

    def __init__(self, traced: fx.GraphModule, bits: Bits) -> None:
        self.traced, self.bits = traced, bits
        graph = traced.graph
        self.image = next(node for node in graph.nodes if node.op == "placeholder")
        self.live = _reached(graph, self.image)
        self.layers = [node for node in graph.nodes if operation(node) in _LAYERS and node.args[0] in self.live]
        if not self.layers:
            raise UsageError("Expected a network with convolutions or linear layers to quantise, found none.")
        self.logits = self._logits(graph)
        self.transformer = any(operation(node) in _TRANSFORMERS for node in self.live if node not in self.logits)
        self.grids = self._grids(graph)
        self.sources = list(dict.fromkeys(self.grids.values()))

    def _logits(self, graph: fx.Graph) -> set[fx.Node]:
        """Return the nodes that hold logits, which stay float."""
        node = graph.output_node().args[0]
        assert isinstance(node, fx.Node)
        chain = {node}
        while operation(node) in _MOVES:
            node = node.args[0]
            assert isinstance(node, fx.Node)
            chain.add(node)
        return chain

    def _wanted(self) -> set[fx.Node]:
        """Return the tensors that must be on a grid."""
        wanted = {self.image, *(layer.args[0] for layer in self.layers)}
        if not self.bits.integer:
            return wanted
        for node in self.live:
            inputs = [source for source in node.all_input_nodes if source in self.live]
            if operation(node) == "conv2d" or (operation(node) == "linear" and not self.transformer):
                wanted.add(_after_relu(norm_after(self.traced, node)))
            elif not self.transformer and (
                operation(node) in _POOLS or (operation(node) in _JOINS and len(inputs) > 1)
            ):
                wanted |= {*inputs, _after_relu(node)}
        return wanted

    def _grids(self, graph: fx.Graph) -> dict[fx.Node, fx.Node]:
        """Return quantised tensor → the tensor whose grid it is on, in the order of the graph."""
        wanted = self._wanted() - self.logits
        grids: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            if operation(node) in _MOVES and node.args[0] in grids and node not in self.logits:
                grids[node] = grids[node.args[0]]
            elif node in wanted:
                grids[node] = node
        return grids

    def pixelwise(self, node: fx.Node) -> bool:
        """Whether a tensor is the image, or the image normalised pixel by pixel."""
        while node is not self.image:
            sources = [source for source in node.all_input_nodes if source in self.live]
            if operation(node) not in _NORMALIZES | _MOVES or len(sources) != 1:
                return False
            node = sources[0]
        return True

    def layer_bits(self, layer: fx.Node) -> int:
        """Return the weight bits of a layer."""
        if self.bits.first_last is not None and layer in (self.layers[0], self.layers[-1]):
            return self.bits.first_last
        return self.bits.weight

    def activation_bits(self, source: fx.Node) -> int:
        """Return the bits of a tensor; an image keeps at least the 8 it comes with."""
        if source is self.image:
            return PIXEL_BITS
        readers = {self.grids.get(self.layers[i].args[0]) for i in (0, -1)}
        at_the_ends = self.bits.first_last is not None and source in readers
        bits = self.bits.first_last if at_the_ends else self.bits.activation
        assert bits is not None
        return max(bits, PIXEL_BITS) if self.pixelwise(source) else bits


def _reached(graph: fx.Graph, image: fx.Node) -> set[fx.Node]:
    """Return the nodes that depend on the image, as tensors (its sizes are left out)."""
    reached = {image}
    for node in graph.nodes:
        if node.op != "output" and "sym_size" not in str(node.target) and reached & {*node.all_input_nodes}:
            reached.add(node)
    return reached


def _after_relu(node: fx.Node) -> fx.Node:
    users = list(node.users)
    return users[0] if len(users) == 1 and operation(users[0]) in _RELUS else node


def _insert_after(graph: fx.Graph, node: fx.Node, target: str) -> None:
    with graph.inserting_after(node):
        quantized = graph.call_module(target, (node,))
    node.replace_all_uses_with(quantized, delete_user_cb=lambda user: user is not quantized)


def _quantize_parameters(traced: fx.GraphModule, layer: fx.Node, bits: int, ranges: Ranges) -> None:
    """Put the weight and the bias of one layer on their grids."""
    source, weight = layer.args[0], layer.args[1]
    assert isinstance(weight, fx.Node)
    quantizer = f"quantizers.{layer.name}_weight"
    # A weight that is computed from others has no values yet that a scale could be found for.
    parameter = attribute(traced, str(weight.target)) if weight.op == "get_attr" else None
    scale = ranges.weight_scale(parameter, bits) if isinstance(parameter, nn.Parameter) else None
    traced.add_submodule(quantizer, WeightQuantizer(bits, scale, learned=ranges.learned))
    with traced.graph.inserting_before(layer):
        layer.args = (source, traced.graph.call_module(quantizer, (weight,)), *layer.args[2:])
    quantize_bias(traced, layer)
