"""A model that went to disk and came back is the same model; anything else in that folder is refused in a sentence."""

import json
import subprocess
import sys

import pytest
import torch
from small_networks import SHAPE
from torch import nn

from bench.compress.graph_file import read_graph, write_graph
from bench.compress.norms import settle_norms
from bench.compress.quantize import Quantize
from bench.compress.sealed import PLAN, TENSORS, digest_of, is_sealed, seal, unseal
from bench.compress.trace import trace
from bench.errors import MissingError, UsageError

CPU = torch.device("cpu")


@pytest.fixture
def folder(conv, ingredients, tmp_path):
    """A W8A8 network with batch-norm, dropout and pooling, sealed."""
    seal(Quantize()(conv, ingredients()).twin, SHAPE, {"recipe": "quant8"}, tmp_path / "sealed")
    return tmp_path / "sealed"


def the_same(one: nn.Module, other: nn.Module, images: torch.Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(one(images), other(images))


@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (1, 8), (2, 2)])
@pytest.mark.parametrize("which", ["conv", "residual"])
def test_a_twin_comes_back_bit_for_bit(which, bits, ingredients, tmp_path, unseen, request):
    quantize = Quantize(weight_bits=bits[0], activation_bits=bits[1])
    twin = settle_norms(quantize(request.getfixturevalue(which), ingredients()).twin)
    seal(twin, SHAPE, {}, tmp_path)
    found = unseal(tmp_path, CPU)
    assert the_same(twin, found.network, unseen[:32])
    assert not found.network.training
    assert found.image_shape == SHAPE


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_float_network_comes_back_bit_for_bit_and_keeps_its_layout(conv, tmp_path, unseen, layout):
    network = conv.twin.to(memory_format=layout)
    seal(network, SHAPE, {}, tmp_path)
    found = unseal(tmp_path, CPU).network
    assert the_same(network, found, unseen[:32])
    (weight,) = [p for name, p in found.named_parameters() if name == "conv1.weight"]
    assert weight.is_contiguous(memory_format=layout)


def test_it_can_be_trained_attacked_and_sealed_again(folder, tmp_path, unseen):
    network = unseal(folder, CPU).network
    images = unseen[:8].clone().requires_grad_()
    network(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in network.parameters())
    seal(network, SHAPE, {"recipe": "quant8", "seconds": 3}, tmp_path / "again")
    assert digest_of(tmp_path / "again") == digest_of(folder)


def test_the_plan_tells_people_shapes_bits_and_scales(folder):
    plan = json.loads((folder / PLAN).read_text())
    first = plan["layers"][0]
    assert first["shape"] == [16, 3, 3, 3]
    assert first["weight_bits"] == first["input"]["bits"] == 8
    assert first["input"]["scale"] > 0
    assert plan["about"] == {"recipe": "quant8"}


def test_a_tensor_with_two_names_stays_one(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(12, 12)
            self.head = nn.Linear(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.one(x.mean((1, 2)))
            return self.head(torch.relu(nn.functional.linear(x, self.one.weight)))

    seal(Tied(), SHAPE, {}, tmp_path)
    found = unseal(tmp_path, CPU).network
    assert sum(p.numel() for p in found.parameters()) == 12 * 12 + 12 + 4 * 12 + 4


def test_another_process_gives_the_same_logits(folder, unseen, tmp_path):
    """Through numpy files, with nothing imported but what loading needs."""
    torch.save(unseen[:4], tmp_path / "images.pt")
    script = f"""
import torch
from pathlib import Path
from bench.compress.sealed import unseal
torch.set_num_threads(1)
network = unseal(Path({str(folder)!r}), torch.device("cpu")).network
with torch.no_grad():
    torch.save(network(torch.load({str(tmp_path / "images.pt")!r}, weights_only=True)), {str(tmp_path / "logits.pt")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    with torch.no_grad():
        ours = unseal(folder, CPU).network(unseen[:4])
    assert torch.equal(ours, torch.load(tmp_path / "logits.pt", weights_only=True))


def edited(folder, change) -> None:
    plan = json.loads((folder / PLAN).read_text())
    change(plan)
    (folder / PLAN).write_text(json.dumps(plan))


def refused(folder, match: str, kind=UsageError) -> None:
    with pytest.raises(kind, match=match) as caught:
        unseal(folder, CPU)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_missing(tmp_path):
    refused(tmp_path, r"plan\.json is not there", MissingError)
    assert not is_sealed(tmp_path)


@pytest.mark.parametrize("name", [PLAN, TENSORS])
def test_a_truncated_file_is_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    refused(folder, "Cannot load the compressed model in")


def test_one_changed_weight_is_noticed(folder):
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(bytes(content))
    refused(folder, r"model\.safetensors is not the file that the plan was written for")


def test_the_tensors_of_another_model_are_noticed(folder, residual, tmp_path):
    seal(residual.twin, SHAPE, {}, tmp_path / "other")
    (folder / TENSORS).write_bytes((tmp_path / "other" / TENSORS).read_bytes())
    refused(folder, "is not the file that")


def test_a_plan_of_the_future_is_refused(folder):
    edited(folder, lambda plan: plan.update(format=2))
    refused(folder, "reads format 1, not 2")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "aten.from_file.default"),
        ("target", "aten.relu_.default"),
        ("target", "aten.no_such_thing.default"),
        ("target", "os.system"),
        ("target", "operator.attrgetter"),
        ("target", "a', __import__('os').system('true'), '"),
        ("name", "x = __import__('os')"),
        ("op", "call_method"),
        ("args", [{"node": "nobody"}]),
        ("kwargs", {"table": {"x=1, **y": 1}}),
    ],
)
def test_a_plan_that_asks_for_anything_but_arithmetic_is_refused(folder, field, value):
    def change(plan):
        node = next(node for node in plan["graph"]["nodes"] if node["op"] == "call_function")
        node[field] = value

    edited(folder, change)
    refused(folder, "Cannot load the compressed model in")


def test_a_network_that_remembers_images_cannot_be_written(conv):
    traced = trace(conv.twin, SHAPE, CPU)
    first = next(node for node in traced.graph.nodes if node.op == "call_function")
    with traced.graph.inserting_after(first):
        traced.graph.call_function(torch.ops.aten.copy_.default, (first, first))
    with pytest.raises(UsageError, match=r"'aten\.copy_\.default' is not an operation that a saved network may use"):
        write_graph(traced)


@pytest.mark.parametrize(("training", "fine"), [(True, False), (False, True)])
def test_a_norm_that_keeps_statistics_of_what_it_is_shown_is_refused_though_its_schema_hides_it(conv, training, fine):
    traced = trace(conv.twin, SHAPE, CPU)
    traced.register_buffer("kept_mean", torch.zeros(SHAPE[0]))
    traced.register_buffer("variance", torch.ones(SHAPE[0]))
    first = next(node for node in traced.graph.nodes if node.op == "placeholder")
    with traced.graph.inserting_after(first):
        variance = traced.graph.get_attr("variance")
    with traced.graph.inserting_after(variance):
        mean = traced.graph.get_attr("kept_mean")
    with traced.graph.inserting_after(mean):
        statistics = (mean, variance, training, 1.0, 1e-5, False)
        traced.graph.call_function(torch.ops.aten.batch_norm.default, (first, None, None, *statistics))
    if fine:
        record, tensors = write_graph(traced)
        with pytest.raises(UsageError, match="would keep statistics of the images"):
            read_graph(flipped(record), tensors, CPU)
    else:
        with pytest.raises(UsageError, match="would keep statistics of the images"):
            write_graph(traced)


def flipped(record):
    """Switch the norm to training."""
    node = next(node for node in record["nodes"] if {"node": "kept_mean"} in node.get("args", ()))
    node["args"][5] = True
    return record


def test_what_is_neither_an_operation_nor_a_quantiser_cannot_be_written(conv):
    traced = trace(conv.twin, SHAPE, CPU)
    traced.add_submodule("own", nn.ReLU())
    node = traced.graph.output_node().args[0]
    with traced.graph.inserting_after(node):
        traced.graph.output_node().args = (traced.graph.call_module("own", (node,)),)
    with pytest.raises(UsageError, match="Expected a quantiser"):
        write_graph(traced)


def test_reading_is_the_inverse_of_writing(conv, unseen):
    traced = trace(conv.twin, SHAPE, CPU)
    record, tensors = write_graph(traced)
    again = read_graph(json.loads(json.dumps(record)), tensors, CPU)
    assert the_same(traced, again, unseen[:16])
    assert write_graph(again)[0] == record
