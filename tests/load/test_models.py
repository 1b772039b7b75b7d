"""Every source of models: what loads, what is cached, and the sentence for everything that does not."""

import importlib.util
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.errors import MissingError, UsageError
from bench.load import first_use, robustbench_zoo
from bench.load.architectures import build
from bench.load.checkpoints import parse_checkpoint, read_content
from bench.load.models import list_models, load_model
from bench.load.normalize import Normalized, parse_normalization
from bench.model import ModelSpec, Task

CIFAR = Task(dataset="cifar10", image_shape=(3, 32, 32), n_classes=10, norm="Linf")
DIGITS = Task(dataset="digits", image_shape=(1, 8, 8), n_classes=10, norm="Linf")
IMAGENET = Task(dataset="imagenet", image_shape=(3, 224, 224), n_classes=1000, norm="Linf")


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "cache"


def load(name, task=CIFAR, *, trust=False, fit=None):
    def no_training(network, schedule):
        raise AssertionError(f"training {name} was not expected")

    def no_folder(path):
        raise AssertionError(f"{path} was not expected to be a folder")

    return load_model(ModelSpec.parse(name), task, trust=trust, fit=fit or no_training, unseal=no_folder)


def sentence(name, task=CIFAR, error=UsageError, **options):
    with pytest.raises(error) as caught:
        load(name, task, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def batch(task=CIFAR):
    return torch.rand(3, *task.image_shape, generator=torch.Generator().manual_seed(1))


# bench:


def test_trained_on_first_use_then_cached(own_caches):
    calls = []

    def fit(network, schedule):
        calls.append(schedule)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(0.5)

    first = load("bench:digits-cnn", DIGITS, fit=fit)
    again = load("bench:digits-cnn", DIGITS, fit=fit)
    assert len(calls) == 1
    assert not first.training
    assert torch.equal(first(batch(DIGITS)), again(batch(DIGITS)))
    assert [path.suffix for path in (own_caches / "models").iterdir()] == [".safetensors"]


def test_cache_is_keyed_by_data_set_and_schedule(monkeypatch):
    before = first_use.cached_path("conv8", CIFAR)
    other = Task(dataset="svhn", image_shape=(3, 32, 32), n_classes=10, norm="Linf")
    assert first_use.cached_path("conv8", other) != before
    corrected = replace(CIFAR, train="of other labels")
    assert first_use.cached_path("conv8", corrected) != before
    monkeypatch.setitem(first_use.SCHEDULES, "conv8", first_use.SCHEDULES["digits-cnn"])
    assert first_use.cached_path("conv8", CIFAR) != before


def test_damaged_cache_is_trained_anew():
    path = first_use.cached_path("digits-cnn", DIGITS)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a fi")
    calls = []
    load("bench:digits-cnn", DIGITS, fit=lambda network, schedule: calls.append(1))
    assert calls == [1]


def test_fresh_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first = first_use.fresh("digits-cnn", DIGITS, 3)(batch(DIGITS))
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, first_use.fresh("digits-cnn", DIGITS, 3)(batch(DIGITS)))
    assert not torch.equal(first, first_use.fresh("digits-cnn", DIGITS, 4)(batch(DIGITS)))


def test_training_that_diverges_is_not_cached():
    def diverge(network, schedule):
        nn.init.constant_(next(network.parameters()), float("nan"))

    assert "not finite" in sentence("bench:digits-cnn", DIGITS, fit=diverge)
    assert not first_use.cached_path("digits-cnn", DIGITS).exists()


def test_bench_names():
    assert "checkpoint:FILE@bench:resnet18" in sentence("bench:resnet18", error=MissingError)
    assert "Did you mean 'resnet18'?" in sentence("bench:resnt18")


def test_list_models_names_every_own_network():
    names = [name for name, _ in list_models()]
    assert {"bench:digits-cnn", "bench:conv8", "bench:wrn-28-10", "autoattack:resnet18"} <= set(names)


# autoattack:


def test_autoattack_resnet18_equals_its_reference_architecture():
    folder = Path(importlib.util.find_spec("pyautoattack").submodule_search_locations[0]) / "examples"
    spec = importlib.util.spec_from_file_location("reference_resnet", folder / "resnet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = module.ResNet18().eval()
    reference.load_state_dict(torch.load(folder / "model_test.pt", map_location="cpu", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(load("autoattack:resnet18")(batch()), reference(batch()), rtol=1e-5, atol=1e-5)


def test_autoattack_model_refuses_other_tasks():
    text = sentence("autoattack:resnet18", DIGITS)
    assert "autoattack:resnet18" in text
    assert "1×8×8 images of digits" in text
    hundred = Task(dataset="cifar100", image_shape=(3, 32, 32), n_classes=100, norm="Linf")
    assert "has 10 classes, but cifar100 has 100" in sentence("autoattack:resnet18", hundred)
    assert "Did you mean" in sentence("autoattack:resnet-18")


# checkpoint:


def saved(path, tensors):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th"])
@pytest.mark.parametrize("architecture", ["bench:resnet20", "timm:resnet10t"])
def test_checkpoint_round_trip(tmp_path, suffix, architecture):
    import timm

    own = architecture.startswith("bench:")
    network = build("resnet20", (3, 32, 32), 10) if own else timm.create_model("resnet10t", num_classes=10)
    path = saved(tmp_path / f"weights{suffix}", network.state_dict())
    assert torch.equal(load(f"checkpoint:{path}@{architecture}")(batch()), network.eval()(batch()))


def test_checkpoint_round_trip_of_a_robustbench_architecture(tmp_path):
    zoo = robustbench_zoo.parse_zoo_name("Andriushchenko2020Understanding", CIFAR)
    network = robustbench_zoo.zoo_architecture(zoo).eval()
    path = saved(tmp_path / "weights.pt", network.state_dict())
    loaded = load(f"checkpoint:{path}@robustbench:{zoo.name}")
    assert torch.equal(loaded(batch()), network(batch()))


def test_checkpoint_with_torchvision_and_python_architectures(tmp_path):
    import torchvision

    network = torchvision.models.get_model("squeezenet1_1", num_classes=10).eval()
    path = saved(tmp_path / "weights.pt", network.state_dict())
    assert torch.equal(load(f"checkpoint:{path}@torchvision:squeezenet1_1")(batch()), network(batch()))
    (tmp_path / "n@t.py").write_text(
        "import torchvision as t\ndef make(): return t.models.squeezenet1_1(num_classes=10)"
    )
    name = f"checkpoint:{path}@python:{tmp_path}/n@t.py:make@none"
    assert torch.equal(load(name, trust=True)(batch()), network(batch()))
    assert "--trust" in sentence(name)


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state_dict", "last", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module.model.", "_orig_mod.module."])
def test_containers_and_prefixes(tmp_path, container, prefix):
    network = build("digits-cnn", (1, 8, 8), 10).eval()
    tensors = {prefix + key: value for key, value in network.state_dict().items()}
    extras = {"epoch": 3, "best": np.float64(0.5), container: tensors}
    path = saved(tmp_path / "weights.pt", extras)
    assert torch.equal(load(f"checkpoint:{path}@bench:digits-cnn", DIGITS)(batch(DIGITS)), network(batch(DIGITS)))


def test_normalisation_goes_inside_and_its_state_dict_loads_back(tmp_path):
    network = build("conv8", (3, 32, 32), 10).eval()
    path = saved(tmp_path / "weights.pt", network.state_dict())
    loaded = load(f"checkpoint:{path}@bench:conv8@cifar10")
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2471, 0.2435, 0.2616]).view(3, 1, 1)
    torch.testing.assert_close(loaded(batch()), network((batch() - mean) / std))
    again = saved(tmp_path / "again.pt", loaded.state_dict())
    explicit = load(f"checkpoint:{again}@bench:conv8@0.4914,0.4822,0.4465/0.2471,0.2435,0.2616")
    assert isinstance(explicit, Normalized)
    torch.testing.assert_close(explicit(batch()), loaded(batch()))


def test_parse_checkpoint_reads_from_the_right():
    path, architecture, normalization = parse_checkpoint("a@b/c.pt@bench:resnet20@0.5/0.5")
    assert (str(path), str(architecture), normalization) == ("a@b/c.pt", "bench:resnet20", "0.5/0.5")
    assert parse_checkpoint("c.pt@robustbench:L2/X")[1:] == (ModelSpec(source="robustbench", name="L2/X"), "none")


@pytest.mark.parametrize("name", ["w.pt", "w.pt@", "w.pt@resnet20", "@bench:resnet20", "w.pt@autoattack:resnet18"])
def test_checkpoint_without_file_or_architecture(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()
    assert "for example checkpoint:weights.pth@bench:resnet20@cifar10" in sentence(f"checkpoint:{name}")


@pytest.mark.parametrize("text", ["cifar01", "a/b", "0.5", "0.5/0", "1,2/1,2", "0.5/nan", "1/2/3"])
def test_bad_normalisations(text):
    with pytest.raises(UsageError):
        parse_normalization(text, 3)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("/tmp/never-made-by-bench",)


def truncated(path, *, modern=True):
    tensors = build("digits-cnn", (1, 8, 8), 10).state_dict()
    torch.save(tensors, path, _use_new_zipfile_serialization=modern)
    path.write_bytes(path.read_bytes()[:-2000])


BAD_FILES = {
    "html.pt": (lambda path: path.write_text("\n <!DOCTYPE html><html>quota"), "web page"),
    "html.safetensors": (lambda path: path.write_text("<html>"), "web page"),
    "cut.pt": (truncated, "truncated or not a PyTorch checkpoint"),
    "cut-old.pt": (lambda path: truncated(path, modern=False), "truncated or not a PyTorch checkpoint"),
    "noise.pth": (lambda path: path.write_bytes(b"hello there, no pickle"), "truncated or not a PyTorch checkpoint"),
    "empty.pt": (lambda path: path.write_bytes(b""), "truncated or not a PyTorch checkpoint"),
    "noise.safetensors": (lambda path: path.write_bytes(b"hello"), "truncated or not a safetensors"),
    "code.pt": (lambda path: torch.save({"a": Dangerous()}, path), "pickled code"),
    "module.pt": (lambda path: torch.save(nn.Linear(1, 1), path), "pickled code"),
    "pickle.pt": (lambda path: path.write_bytes(pickle.dumps(Dangerous())), "pickled code"),
    "list.pt": (lambda path: torch.save([1, 2], path), "got a list"),
    "none.pt": (lambda path: torch.save({"epoch": 1}, path), "Expected weights"),
}


@pytest.mark.parametrize("file", BAD_FILES)
def test_bad_checkpoint_files(tmp_path, file):
    make, expected = BAD_FILES[file]
    make(tmp_path / file)
    text = sentence(f"checkpoint:{tmp_path / file}@bench:digits-cnn", DIGITS)
    assert expected in text
    assert str(tmp_path / file) in text
    assert not Path("/tmp/never-made-by-bench").exists()


def test_missing_checkpoint_file(tmp_path):
    path = tmp_path / "no.pt"
    assert str(path) in sentence(f"checkpoint:{path}@bench:resnet20", error=MissingError)


def test_keys_and_shapes_that_do_not_match(tmp_path):
    path = saved(tmp_path / "w.pt", build("resnet20", (3, 32, 32), 10).state_dict())
    text = sentence(f"checkpoint:{path}@bench:preact-resnet18")
    assert "bench:preact-resnet18" in text
    assert "missing" in text
    assert "unexpected" in text
    hundred = Task(dataset="cifar100", image_shape=(3, 32, 32), n_classes=100, norm="Linf")
    assert "'linear.weight' has shape (10, 64), expected (100, 64)" in sentence(
        f"checkpoint:{path}@bench:resnet20", hundred
    )


def test_weights_that_are_not_finite(tmp_path):
    tensors = build("digits-cnn", (1, 8, 8), 10).state_dict()
    tensors["linear.bias"].fill_(float("nan"))
    path = saved(tmp_path / "w.pt", tensors)
    assert "not finite" in sentence(f"checkpoint:{path}@bench:digits-cnn", DIGITS)


# robustbench:


def test_zoo_lists_names_and_leaves_no_stand_ins_behind():
    import sys

    assert "Wong2020Fast" in robustbench_zoo.zoo_names("cifar10", "Linf")
    assert robustbench_zoo.zoo_names("cifar10", "corruptions_3d") == robustbench_zoo.zoo_names("cifar10", "corruptions")
    assert robustbench_zoo.zoo_names("digits", "Linf") == []
    module = sys.modules.get("autoattack")
    assert module is None or getattr(module, "__file__", None)


def test_zoo_names_that_are_wrong():
    assert "Did you mean 'Wong2020Fast'?" in sentence("robustbench:Wong2020Fst")
    assert "but robustbench:cifar10/Linf/Carmon2019Unlabeled" in sentence("robustbench:L2/Carmon2019Unlabeled")
    assert "for digits" in sentence("robustbench:Wong2020Fast", DIGITS)
    assert "[DATASET/][THREAT/]NAME" in sentence("robustbench:a/b/c")


def test_zoo_weights_that_are_not_here(own_caches):
    text = sentence("robustbench:Wong2020Fast", error=MissingError)
    assert str(own_caches / "robustbench" / "cifar10" / "Linf" / "Wong2020Fast.pt") in text
    assert "BENCH_OFFLINE" in text
    assert ".pt_m0.pt" in sentence("robustbench:Chen2020Adversarial", error=MissingError)
    assert "xcit-s-cifar10" in sentence("robustbench:Debenedetti2022Light_XCiT-S12", error=MissingError)


def test_zoo_loads_a_file_put_there_by_hand(own_caches):
    zoo = robustbench_zoo.parse_zoo_name("Wong2020Fast", CIFAR)
    network = robustbench_zoo.zoo_architecture(zoo).eval()
    path = own_caches / "robustbench" / "cifar10" / "Linf" / "Wong2020Fast.pt"
    path.parent.mkdir(parents=True)
    # As published: without the constants of the normalisation.
    tensors = {key: value for key, value in network.state_dict().items() if key not in ("mu", "sigma")}
    torch.save(tensors, path)
    assert torch.equal(load("robustbench:Wong2020Fast")(batch()), network(batch()))


def test_zoo_deletes_a_web_page_saved_as_a_checkpoint(own_caches):
    path = own_caches / "robustbench" / "cifar10" / "Linf" / "Wong2020Fast.pt"
    path.parent.mkdir(parents=True)
    path.write_text("<html>Google Drive: quota exceeded")
    assert str(path) in sentence("robustbench:Wong2020Fast", error=MissingError)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"<html>quota", None])
def test_zoo_download_that_fails_leaves_nothing(own_caches, monkeypatch, content):
    import gdown

    def download(*, id, output, quiet):
        if content:
            Path(output).write_bytes(content)
            return output
        return None

    monkeypatch.delenv("BENCH_OFFLINE")
    monkeypatch.setattr(gdown, "download", download)
    assert "could not be downloaded" in sentence("robustbench:Wong2020Fast", error=MissingError)
    assert list((own_caches / "robustbench" / "cifar10" / "Linf").iterdir()) == []


# timm: and torchvision:


def test_pretrained_weights_that_are_not_here(own_caches):
    assert str(own_caches / "downloads") in sentence("timm:resnet10t", IMAGENET, error=MissingError)
    assert str(own_caches / "downloads") in sentence("torchvision:resnet18", IMAGENET, error=MissingError)


def test_pretrained_weights_from_the_cache_are_normalised(own_caches):
    import timm
    import torchvision

    small = Task(dataset="imagenet", image_shape=(3, 64, 64), n_classes=1000, norm="Linf")
    folder = own_caches / "downloads"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "timm" / "resnet10t.c3_in1k").mkdir(parents=True)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    network = timm.create_model("resnet10t").eval()
    save_file(network.state_dict(), folder / "timm" / "resnet10t.c3_in1k" / "model.safetensors")
    torch.testing.assert_close(load("timm:resnet10t", small)(batch(small)), network((batch(small) - mean) / std))
    network = torchvision.models.get_model("squeezenet1_1").eval()
    torch.save(network.state_dict(), folder / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    loaded = load("torchvision:squeezenet1_1", small)
    torch.testing.assert_close(loaded(batch(small)), network((batch(small) - mean) / std))


def test_pretrained_names_and_tasks_that_are_wrong():
    assert "Did you mean 'resnet10t'?" in sentence("timm:resnt10t", IMAGENET)
    assert "Did you mean 'resnet18'?" in sentence("torchvision:resnt18", IMAGENET)
    assert "has 1000 classes" in sentence("timm:resnet10t")
    assert "cifar10 has 10 classes" in sentence("torchvision:resnet18")


# python:


def python_file(tmp_path, body):
    path = tmp_path / "net.py"
    path.write_text(body)
    return f"python:{path}"


def test_python_function(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("WIDTH = 64")
    name = python_file(
        tmp_path,
        "from torch import nn\nimport neighbour_of_net as n\n"
        "def make(): return nn.Sequential(nn.Flatten(), nn.Linear(n.WIDTH, 10)).double()\n",
    )
    assert load(f"{name}:make", DIGITS, trust=True)(batch(DIGITS)).dtype == torch.float32
    assert "--trust" in sentence(f"{name}:make", DIGITS)


@pytest.mark.parametrize(
    ("body", "function", "expected"),
    [
        ("def make(): return 3", "make", "return an nn.Module, got a int"),
        ("def make(): raise ValueError('no luck')", "make", ".py, line 1, raised ValueError: no luck; fix it."),
        ("import sys; sys.exit(4)", "make", "raised SystemExit"),
        ("def make(: 3", "make", ".py raised SyntaxError: "),
        ("def make(): pass", "mak", "Did you mean 'make'?"),
        ("from torch import nn\ndef make(): return nn.Flatten()", "make", "has 64 classes, but digits has 10"),
        ("from torch import nn\ndef make(): return nn.Identity()", "make", "Expected python:"),
    ],
)
def test_python_functions_that_fail(tmp_path, body, function, expected):
    assert expected in sentence(f"{python_file(tmp_path, body)}:{function}", DIGITS, trust=True)


def test_python_files_that_are_not_there(tmp_path):
    assert "There is no Python file" in sentence(f"python:{tmp_path}/no.py:make", error=MissingError, trust=True)
    assert "python:FILE.py:FUNCTION" in sentence("python:net.py", trust=True)


# Real weights and real images.


@pytest.mark.data
def test_resnet20_weights_reach_their_published_accuracy():
    folders = {name: os.environ.get(name) for name in ("BENCH_DATA_DIR", "BENCH_WEIGHTS_DIR")}
    if not folders["BENCH_DATA_DIR"]:
        pytest.skip("BENCH_DATA_DIR is not set")
    data = Path(folders["BENCH_DATA_DIR"]) / "cifar10.npz"
    weights = Path(folders["BENCH_WEIGHTS_DIR"] or data.parent.parent / "weights") / "cifar10-resnet20-standard.th"
    if not data.is_file() or not weights.is_file():
        pytest.skip(f"needs {data} and {weights}")
    arrays = np.load(data, allow_pickle=False)
    images = torch.from_numpy(arrays["test_x"][:500]).permute(0, 3, 1, 2).float() / 255
    network = load(f"checkpoint:{weights}@bench:resnet20@imagenet")
    with torch.no_grad():
        right = (network(images).argmax(1) == torch.from_numpy(arrays["test_y"][:500])).float().mean()
    assert right > 0.88


def test_read_content_tells_the_format_from_the_content(tmp_path):
    path = tmp_path / "download.part"
    save_file({"a": torch.ones(2)}, path)
    assert list(read_content(path)) == ["a"]
