"""The model behind an entry, in each form, and what is said where it cannot be had."""

from pathlib import Path

import pytest
import torch
from factories import make_entry
from torch import nn

import bench.prepare
from bench.compress.export import OnnxClassifier
from bench.compress.quantize import Quantize
from bench.compress.sealed import seal, unseal
from bench.dataset import Examples
from bench.errors import MissingError, UsageError
from bench.export import export
from bench.load.models import load_model
from bench.model import ModelSpec, Subject, Task
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

SHAPE = (1, 8, 8)
CPU, HERE = torch.device("cpu"), Path()


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


@pytest.fixture
def entry(network, tmp_path, monkeypatch):
    """Return a function: bits → an entry whose model is in the cache."""
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    images = Examples(images=torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8), labels=torch.zeros(64).long())
    ingredients = Ingredients(
        train=images,
        threat=ThreatModel(norm="Linf", eps=parse_eps("0.1")),
        finetune_images=64,
        generator=torch.Generator().manual_seed(0),
        device=CPU,
        report=silent,
        meter=Meter(),
    )

    def make(bits: int):
        subject = Subject.of(network)
        if bits < 32:
            subject = Quantize(weight_bits=bits, activation_bits=bits)(subject, ingredients)
        folder = tmp_path / "cache" / "compressed" / f"w{bits}"
        seal(subject.twin, SHAPE, {}, folder)
        return make_entry(bits=bits).model_copy(update={"sealed": unseal(folder, CPU).digest}), subject.twin

    return make


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1)))


def test_a_folder_is_a_model_by_name(entry):
    made, twin = entry(4)
    path = export(made, "safetensors", HERE)
    task = Task(dataset="digits", image_shape=SHAPE, n_classes=10, norm="Linf")

    def unused(*args):
        raise AssertionError("a compressed model is not trained")

    found = load_model(
        ModelSpec.parse(f"checkpoint:{path}"), task, trust=False, fit=unused, unseal=lambda at: unseal(at, CPU).network
    )
    assert torch.equal(logits(found), logits(twin))


@pytest.mark.parametrize("bits", [8, 32])
def test_the_onnx_file_is_the_one_that_is_judged(entry, bits):
    made, twin = entry(bits)
    path = export(made, "onnx", HERE)
    assert path.suffix == ".onnx"
    assert torch.allclose(logits(OnnxClassifier(path.read_bytes())), logits(twin), atol=1e-3)


def test_bits_without_kernels_have_no_onnx_file(entry):
    with pytest.raises(UsageError, match=r"has no ONNX form .*choose --format safetensors or torch-export"):
        export(entry(4)[0], "onnx", HERE)


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_a_torch_program_gives_the_same_logits(entry, bits, tmp_path):
    made, twin = entry(bits)
    path = export(made, "torch-export", HERE, tmp_path / "sub" / "net.pt2")
    program = torch.export.load(path).module()
    assert torch.allclose(logits(program), logits(twin), atol=1e-6)


def test_nothing_is_overwritten(entry, tmp_path):
    made, _ = entry(8)
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="is there already; choose another place with --to"):
        export(made, "safetensors", HERE, tmp_path / "taken")


def test_an_unknown_form_is_answered_with_the_known_ones(entry):
    with pytest.raises(UsageError, match=r"no format 'onx'\. Did you mean 'onnx'"):
        export(entry(8)[0], "onx", HERE)


def test_a_model_that_is_not_here_can_be_made_again(entry):
    made, _ = entry(8)
    away = made.model_copy(update={"sealed": "0" * 64})
    with pytest.raises(MissingError, match=r"make it again: bench evaluate --recipe quant8 --track made-up-v1\."):
        export(away, "safetensors", HERE)
    with pytest.raises(MissingError, match="could not be saved"):
        export(made.model_copy(update={"sealed": None}), "safetensors", HERE)
    assert bench.prepare.sealed_folder(made, HERE).name == "w8"


def test_a_model_beside_its_entry_needs_no_cache(entry, tmp_path, monkeypatch):
    made, twin = entry(8)
    published = tmp_path / "board" / f"{made.name}.model"
    export(made, "safetensors", HERE, published)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "another"))
    assert bench.prepare.sealed_folder(made, published.parent) == published
    again = export(made, "safetensors", published.parent, tmp_path / "again")
    assert torch.equal(logits(unseal(again, CPU).network), logits(twin))
    other = made.model_copy(update={"sealed": "0" * 64})
    with pytest.raises(MissingError, match="make it again"):
        export(other, "onnx", published.parent)
