"""A model that was made before is found again, and no other one in its place."""

import pytest
import torch
from safetensors.torch import save_file

from bench.dataset import Dataset, Examples
from bench.load.architectures import build
from bench.load.datasets import load_digits
from bench.model import ModelSpec
from bench.parent import load_parent
from bench.prepare import prepare
from bench.progress import silent
from bench.recipe import load_recipe
from bench.request import Request
from bench.track import load_track

CPU = torch.device("cpu")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Prepare the network of one file, normalised in one way or another, by a recipe."""
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    torch.manual_seed(0)
    save_file(build("digits-cnn", (1, 8, 8), 10).state_dict(), tmp_path / "net.safetensors")

    def prepared(normalization: str, recipe: str = "none", dataset: Dataset | None = None):
        model = ModelSpec.parse(f"checkpoint:{tmp_path / 'net.safetensors'}@bench:digits-cnn@{normalization}")
        track, dataset = load_track("digits-linf-v1"), dataset or load_digits()
        request = Request(recipe=load_recipe(recipe), track=track, model=model, device="cpu")
        return prepare(request, load_parent(request, dataset, CPU, silent), dataset, CPU, silent)

    return prepared


def test_the_same_request_finds_what_it_made(made, monkeypatch):
    first = made("none").digest

    def steps(*arguments):
        raise AssertionError("made again")

    monkeypatch.setattr("bench.prepare.take_steps", steps)
    assert made("none").digest == first


def test_a_model_of_the_same_weights_and_another_normalisation_is_another(made):
    assert made("none").digest != made("half").digest


def test_what_was_made_of_other_training_images_is_not_taken(made, tmp_path):
    dataset = load_digits()
    images = dataset.train.images.clone()
    images[1] = 255 - images[1]
    corrected = Examples(images=images, labels=dataset.train.labels)
    other = Dataset(name=dataset.name, train=corrected, test=dataset.test, n_classes=dataset.n_classes)
    for each in (dataset, other, dataset):
        made("none", "none", each)
    assert len(list((tmp_path / "cache" / "compressed").iterdir())) == 2
