import copy
import dataclasses
import math

import pytest
import torch
from small_networks import SHAPE, subject, train

from bench.compress.export import Artefact, agreement, deploy, packed_bytes
from bench.compress.norms import settle_norms
from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.compress.trace import trace
from bench.machine.onnx_session import open_session
from bench.model import Subject
from bench.provenance import has_vnni


@pytest.fixture(scope="module", params=["conv", "residual"])
def shipped(request, _networks, ingredients) -> tuple[Subject, Artefact]:
    """A network of 8 bits, and its file."""
    small = Quantize()(subject(_networks[request.param]), ingredients())
    return small, deploy(small, SHAPE)


def test_int8_runs_in_integers_and_agrees_with_its_twin(shipped, unseen):
    subject, artefact = shipped
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
    assert artefact.n_bytes == len(artefact.data) > 0
    noise = torch.rand(200, *SHAPE, generator=torch.Generator().manual_seed(0))
    for images in (unseen, noise):
        result = agreement(subject.twin, artefact.classifier, images)
        assert result.top1 >= 0.995
        assert result.gap <= 3 * result.noise + 0.01


def test_only_processors_without_vnni_pay_for_exact_products(shipped, unseen, monkeypatch):
    data = shipped[1].data
    key, answers = "session.x64quantprecision", []
    for vnni in (True, False):
        monkeypatch.setattr("bench.machine.onnx_session.has_vnni", lambda found=vnni: found)
        session = open_session(data, 1)
        if vnni:
            with pytest.raises(RuntimeError, match=key):
                session.get_session_options().get_session_config_entry(key)
        else:
            assert session.get_session_options().get_session_config_entry(key) == "1"
        (name,) = (one.name for one in session.get_inputs())
        answers.append(session.run(None, {name: unseen.numpy()})[0])
    if has_vnni():
        assert (answers[0] == answers[1]).all()


def test_the_int8_file_is_a_quarter_of_the_float_one(ingredients, conv):
    wide = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(6400, 4))
    subject = dataclasses.replace(conv, twin=wide.eval())
    full, small = deploy(subject, SHAPE), deploy(Quantize()(subject, ingredients()), SHAPE)
    assert full.kind == "onnx-float32"
    assert full.integer_macs_share is None
    assert full.classifier is subject.twin
    assert 0.2 < small.n_bytes / full.n_bytes < 0.45


def test_what_training_made_of_weights_and_norms_is_deployed(shipped, examples, unseen):
    start, before = shipped
    subject = dataclasses.replace(start, twin=copy.deepcopy(start.twin))
    train(subject.twin.train(), examples, 10)
    settled = settle_norms(subject.twin.eval())
    after = deploy(subject, SHAPE)
    assert after.kind == "onnx-int8"
    for twin in (subject.twin, settled):
        result = agreement(twin, after.classifier, unseen)
        assert result.top1 >= 0.995
        assert result.gap <= 3 * result.noise + 0.01
        assert result.gap < agreement(twin, before.classifier, unseen).gap


@pytest.mark.parametrize(
    ("either", "size", "learned"),
    [("conv", 1e-4, True), ("conv", 1e-12, False), ("residual", 1e-4, False), ("residual", 1e-12, True)],
    indirect=["either"],
)
def test_a_bias_that_its_grid_is_too_fine_for_ships(either, ingredients, unseen, size, learned):
    before = dataclasses.replace(either, twin=copy.deepcopy(either.twin))
    layer = before.twin.hidden if hasattr(before.twin, "hidden") else before.twin.project
    with torch.no_grad():
        layer.weight[::4] *= size
        layer.bias[::4] = torch.tensor([5.0, -5.0]).repeat(4)
    subject = Quantize(learn_steps=learned)(before, ingredients())
    assert agreement(before.twin, subject.twin, unseen).gap < 0.02
    result = agreement(subject.twin, deploy(subject, SHAPE).classifier, unseen)
    assert result.top1 >= 0.995
    assert result.gap <= 3 * result.noise + 0.01


def test_prune_then_quantise_then_deploy(either, ingredients, unseen):
    subject = Quantize()(PruneChannels(ratio=0.5)(either, ingredients()), ingredients())
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
    assert agreement(subject.twin, artefact.classifier, unseen).top1 >= 0.995


def test_few_bits_are_simulated_and_counted_packed(conv, ingredients):
    subject = Quantize(weight_bits=4, activation_bits=4)(conv, ingredients())
    subject = dataclasses.replace(subject, twin=settle_norms(subject.twin))
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "simulated"
    assert artefact.classifier is subject.twin
    assert artefact.data == b""
    weights, outputs = 3 * 16 * 9 + 16 * 16 * 9 + 144 * 32 + 32 * 4, 16 + 16 + 32 + 4
    # Beside weights: a scale and a bias for each output, a grid for each of 5 tensors, the mean of the normalisation.
    assert artefact.n_bytes == weights // 2 + 4 * (2 * outputs + 2 * 5 + 3)


class Odd(torch.nn.Module):
    """Uses an operation ONNX has no word for."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.head(torch.special.bessel_j1(x).mean((2, 3)))


def test_a_float_model_without_onnx_form_ships_as_safetensors(conv, capfd):
    subject = dataclasses.replace(conv, twin=Odd().eval())
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "torch"
    assert artefact.note.startswith("ONNX export failed")
    assert artefact.n_bytes == len(artefact.data) > 4 * 16
    assert capfd.readouterr().out == ""


def test_agreement_of_a_model_with_itself_is_perfect(conv, unseen):
    result = agreement(conv.parent, conv.parent, unseen)
    assert (result.top1, result.gap) == (1.0, 0.0)
    assert 0 < result.noise < 1e-4


@pytest.mark.gpu
def test_a_twin_on_the_gpu_deploys_and_agrees(conv, ingredients, unseen):
    device = torch.device("cuda")
    subject = Quantize()(conv, dataclasses.replace(ingredients(), device=device))
    artefact = deploy(subject, SHAPE)
    assert artefact.classifier(unseen.to(device)).device.type == "cuda"
    assert agreement(subject.twin, artefact.classifier, unseen.to(device)).top1 >= 0.99


class Insisting(torch.nn.Module):
    """Names float32 itself, as attention often does; and answers no number on black images."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(math.prod(SHAPE), 4)

    def forward(self, images):
        scores = self.last(images.flatten(1).to(torch.float32))
        return scores.softmax(1, dtype=torch.float32) / images.amax((1, 2, 3)).unsqueeze(1)


@pytest.mark.parametrize("traced", [True, False])
def test_a_network_that_names_float32_is_compared_too(traced, unseen):
    network = Insisting().eval()
    twin = trace(network, SHAPE, torch.device("cpu")) if traced else network
    result = agreement(twin, network, unseen)
    assert result.top1 == 1
    assert result.gap == 0
    assert (0 < result.noise < 1e-5) if traced else result.noise == 0


def test_answers_that_are_no_numbers_still_give_a_finite_comparison(unseen):
    images = torch.cat([torch.zeros(3, *SHAPE), unseen])
    network = Insisting().eval()
    result = agreement(network, lambda asked: network(asked).nan_to_num(0.0), images)
    assert result.gap == 0
    assert agreement(network, network, images[:3]).gap == 0


def test_a_layer_that_is_used_twice_is_packed_once(ingredients, conv):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3, padding=1)
            self.last = torch.nn.Linear(4, 4)

        def forward(self, images):
            return self.last(self.again(self.again(self.first(images).relu()).relu()).mean((2, 3)))

    network = Twice().eval()
    subject = Quantize(weight_bits=4, activation_bits=4)(dataclasses.replace(conv, twin=network), ingredients())
    weights = sum(part.weight.numel() for part in (network.first, network.again, network.last))
    assert weights / 2 < packed_bytes(subject.twin, SHAPE) < 4 * weights
