import dataclasses

import pytest
import torch
from small_networks import SHAPE, train

from bench.compress.export import agreement, deploy
from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize


def test_int8_runs_in_integers_and_agrees_with_its_twin(either, ingredients, unseen):
    subject = Quantize()(either, ingredients())
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
    assert artefact.runtime.startswith("onnxruntime")
    assert artefact.n_bytes == len(artefact.data) > 0
    noise = torch.rand(200, *SHAPE, generator=torch.Generator().manual_seed(0))
    for images in (unseen, noise):
        result = agreement(subject.twin, artefact.classifier, images)
        assert result.top1 >= 0.995
        assert result.gap <= 3 * result.noise + 0.01


def test_the_int8_file_is_a_quarter_of_the_float_one(ingredients, conv):
    wide = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(6400, 4))
    subject = dataclasses.replace(conv, twin=wide.eval())
    full, small = deploy(subject, SHAPE), deploy(Quantize()(subject, ingredients()), SHAPE)
    assert full.kind == "onnx-float32"
    assert full.integer_macs_share is None
    assert full.classifier is subject.twin
    assert 0.2 < small.n_bytes / full.n_bytes < 0.45


def test_fine_tuned_weights_are_what_is_deployed(conv, ingredients, examples, unseen):
    subject = Quantize()(conv, ingredients())
    before = deploy(subject, SHAPE)
    train(subject.twin, examples, 10)
    after = deploy(subject, SHAPE)
    assert agreement(subject.twin, after.classifier, unseen).top1 >= 0.995
    assert (
        agreement(subject.twin, after.classifier, unseen).gap < agreement(subject.twin, before.classifier, unseen).gap
    )


def test_prune_then_quantise_then_deploy(either, ingredients, unseen):
    subject = Quantize()(PruneChannels(ratio=0.5)(either, ingredients()), ingredients())
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
    assert agreement(subject.twin, artefact.classifier, unseen).top1 >= 0.995


def test_few_bits_are_simulated_and_counted_packed(conv, ingredients):
    subject = Quantize(weight_bits=4, activation_bits=4)(conv, ingredients())
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
