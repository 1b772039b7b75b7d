"""Twin and deployed int8 file on real networks, real images and their adversarial versions."""

import os
from pathlib import Path

import pytest
import torch
from small_networks import subject
from torch import Tensor, nn

from bench.compress.export import agreement, deploy
from bench.compress.norms import settle_norms
from bench.compress.quantize import Quantize
from bench.dataset import Dataset, Examples
from bench.finetune.adversarial import pgd
from bench.finetune.clean import cross_entropy
from bench.finetune.loop import Descent, train
from bench.load.architectures import build
from bench.load.datasets import load_dataset
from bench.load.models import load_model
from bench.model import ModelSpec, Task
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

THREAT = ThreatModel(norm="Linf", eps=parse_eps("2/255"))
CPU = torch.device("cpu")


def ingredients(examples: Examples) -> Ingredients:
    return Ingredients(
        train=examples,
        threat=THREAT,
        finetune_images=0,
        generator=torch.Generator().manual_seed(0),
        device=CPU,
        report=silent,
        meter=Meter(),
    )


def real_network(name: str) -> tuple[nn.Module, Dataset]:
    """Load (conv8: train for 200 steps) a network and its images."""
    if not (data := os.environ.get("BENCH_DATA_DIR")):
        pytest.skip("BENCH_DATA_DIR is not set")
    dataset = load_dataset("fashion-mnist" if name == "conv8" else "cifar10")
    if name == "conv8":
        torch.manual_seed(0)
        network = build(name, dataset.image_shape, 10)
        descent = Descent(optimizer="adamw", learning_rate=1e-3)
        settings = {"generator": torch.Generator().manual_seed(0), "device": CPU, "report": silent}
        train(network, dataset.train, cross_entropy, descent, images=64 * 200, stage="", **settings)
        return network, dataset
    weights = Path(os.environ.get("BENCH_WEIGHTS_DIR") or Path(data).parent / "weights")
    file = weights / "cifar10-resnet20-standard.th"
    models = {"resnet18": "autoattack:resnet18", "resnet20": f"checkpoint:{file}@bench:resnet20@imagenet"}
    if name == "resnet20" and not file.is_file():
        pytest.skip(f"needs {file}")
    task = Task(dataset="cifar10", image_shape=(3, 32, 32), n_classes=10, norm="Linf")
    return load_model(ModelSpec.parse(models[name]), task, trust=False, fit=None, unseal=None), dataset


def attacked(model: nn.Module, images: Tensor) -> Tensor:
    """Return images a few PGD steps away from the model's own answers, found through the twin."""
    parts = []
    for part in images.split(50):
        with torch.no_grad():
            labels = model(part).argmax(1)
        parts.append(pgd(model, part, labels, THREAT, steps=3, step_size=1 / 255, generator=None))
    return torch.cat(parts)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n", "more"),
    [
        ("conv8", 1000, {}),
        ("conv8", 1000, {"learn_steps": True, "range": "mse"}),
        ("resnet20", 1000, {}),
        ("resnet18", 200, {}),
        pytest.param("resnet18", 1000, {}, marks=pytest.mark.slow),  # a quarter of an hour on one core
    ],
)
def test_real_and_adversarial_images_get_the_same_answers(name, n, more):
    network, dataset = real_network(name)
    quantised = Quantize(calibration_images=128, **more)(subject(network.eval()), ingredients(dataset.train))
    artefact = deploy(quantised, dataset.image_shape)
    twin = settle_norms(quantised.twin)  # as after the last step of a recipe: this is what is attacked
    assert artefact.integer_macs_share >= 0.95
    images = dataset.test.first(n).pixels()
    for kind, asked in (("clean", images), ("adversarial", attacked(twin, images))):
        result = agreement(twin, artefact.classifier, asked, batch=50)
        print(f"{name} {more} {kind}: {result}, integer share {artefact.integer_macs_share:.4f}")
        assert result.top1 >= 0.995
        assert result.gap <= 5 * result.noise + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"), [("conv8", (1, 28, 28)), ("resnet18", (3, 32, 32)), ("wrn-28-10", (3, 32, 32))]
)
def test_nearly_all_of_the_work_is_done_in_integers(name, shape):
    torch.manual_seed(0)
    network = build(name, shape, 10).eval()
    images = torch.randint(256, (4, *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    given = ingredients(Examples(images=images, labels=torch.zeros(4, dtype=torch.long)))
    artefact = deploy(Quantize(calibration_images=4)(subject(network), given), shape)
    print(f"{name}: integer share {artefact.integer_macs_share:.4f}")
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
