import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from bench.errors import BenchError, MissingError, UsageError
from bench.load import dataset_files, datasets
from bench.load.datasets import dataset_names, find_dataset, load_dataset

KEYS = ("train_x", "train_y", "test_x", "test_y")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Give every test an empty data folder and cache, and no network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_OFFLINE", "1")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def arrays(shape=(4, 4, 3), n_train=6, n_test=4):
    random = np.random.default_rng(0)
    return {
        "train_x": random.integers(0, 256, (n_train, *shape), dtype=np.uint8),
        "train_y": np.arange(n_train) % 3,
        "test_x": random.integers(0, 256, (n_test, *shape), dtype=np.uint8),
        "test_y": np.arange(n_test) % 2,
    }


def paint(path: Path, value=0, size=(5, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def one_sentence(error: BenchError) -> str:
    assert "\n" not in str(error)
    return str(error)


# digits


def test_guarantee_the_digits_split_is_the_same_everywhere():
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.test), digits.n_classes, digits.image_shape) == (1397, 400, 10, (1, 8, 8))
    assert digits.test.images.dtype == torch.uint8
    assert digits.test.labels.dtype == torch.int64
    assert (int(digits.test.images.min()), int(digits.test.images.max())) == (0, 255)
    assert torch.bincount(digits.test.labels).min() >= 25
    content = hashlib.sha256()
    for split in (digits.test, digits.train):
        content.update(split.images.numpy().tobytes())
        content.update(split.labels.numpy().astype("<i8").tobytes())
    assert content.hexdigest()[:16] == "c9a84cb9155da9e3"


def test_digits_need_no_folder_and_no_network(monkeypatch):
    monkeypatch.delenv("BENCH_DATA_DIR")
    assert find_dataset("digits").startswith("built in")
    assert len(load_dataset("digits").test) == 400


# npz


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_npz_becomes_uint8_channels_first_in_file_order(data, shape):
    given = arrays(shape)
    np.savez(data / "mine.npz", **given)
    assert find_dataset("mine") == str(data / "mine.npz")
    assert "mine" in dataset_names()
    mine = load_dataset("mine")
    channels = shape[2] if len(shape) == 3 else 1
    assert (mine.name, mine.n_classes, mine.image_shape) == ("mine", 3, (channels, 4, 5))
    assert mine.train.images.dtype == torch.uint8
    assert mine.train.labels.dtype == torch.int64
    assert mine.train.images.is_contiguous()
    np.testing.assert_array_equal(mine.test.images.permute(0, 2, 3, 1).numpy().reshape(4, *shape), given["test_x"])
    np.testing.assert_array_equal(mine.train.labels.numpy(), given["train_y"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_y": None}, "test_y"),
        ({"train_x": np.zeros((6, 4, 4, 3), np.float32)}, "train_x"),
        ({"train_x": np.zeros((6, 3, 4, 4), np.uint8)}, "train_x"),
        ({"test_x": np.zeros((4, 48), np.uint8)}, "test_x"),
        ({"test_x": np.zeros((4, 9, 9, 3), np.uint8)}, "one image shape"),
        ({"test_x": np.zeros((), np.uint8)}, "test_x"),
        ({"test_x": np.zeros((0, 4, 4, 3), np.uint8), "test_y": np.zeros(0, int)}, "at least one image in test_x"),
        ({"train_y": np.arange(5)}, "train_y"),
        ({"train_y": np.zeros(6)}, "train_y"),
        ({"test_y": np.zeros((4, 1), int)}, "test_y"),
        ({"test_y": np.array([0, 1, -1, 0])}, "-1 … 1"),
        ({"test_y": np.array([0, 1, 7000, 0])}, "0 … 7000"),
        ({"test_y": np.array([0, 1, 2**63, 0], np.uint64)}, "test_y"),
        ({"test_x": np.array([object()] * 4)}, "test_x"),
        ({"test_y": np.array([0, 1, 3, 0])}, "none of class 3"),
    ],
)
def test_a_wrong_npz_is_one_sentence_with_file_and_key(data, change, said):
    given = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez(data / "mine.npz", **given)
    with pytest.raises(UsageError) as caught:
        load_dataset("mine")
    assert said in one_sentence(caught.value)
    assert str(data / "mine.npz") in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_damaged_npz_is_one_sentence_wherever_it_breaks(data):
    path = data / "mine.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    broken = [whole[: len(whole) * part // 8] for part in range(8)] + [b"not an archive", pickle.dumps({"a": 1})]
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[random.integers(len(whole))] ^= 0xFF
        broken.append(bytes(flipped))
    said = []
    for content in broken:
        path.write_bytes(content)
        try:
            load_dataset("mine")  # some bytes, such as dates, do not matter
        except UsageError as error:
            said.append(one_sentence(error))
    assert len(said) > 50
    assert all(str(path) in sentence for sentence in said)


def test_a_lone_array_or_a_folder_under_the_name_npz(data):
    with (data / "mine.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    (data / "yours.npz").mkdir()
    for name in ("mine", "yours"):
        with pytest.raises(UsageError, match="NumPy archive"):
            load_dataset(name)


def test_an_empty_training_split_is_allowed(data):
    np.savez(data / "mine.npz", **arrays(n_train=0))
    assert len(load_dataset("mine").train) == 0


def test_a_known_name_must_look_like_itself(data):
    np.savez(data / "cifar10.npz", **arrays((32, 32, 3)))
    assert load_dataset("cifar10").n_classes == 10
    np.savez(data / "cifar10.npz", **arrays((28, 28)))
    with pytest.raises(UsageError, match="3×32×32"):
        load_dataset("cifar10")
    given = arrays((32, 32, 3), n_train=20)
    given["train_y"][0] = 11
    np.savez(data / "cifar10.npz", **given)
    with pytest.raises(UsageError, match=r"0 … 9, got 11"):
        load_dataset("cifar10")


# folders of images


def class_folders(data, test="test"):
    for index in range(6):
        paint(data / "pets" / "train" / "dog" / f"{index}.png", 100 + index)
        paint(data / "pets" / "train" / "cat" / f"{index}.bmp", index)
        paint(data / "pets" / test / "dog" / f"{index}.PNG", 100 + index)
        paint(data / "pets" / test / "cat" / f"{index}.png", index)
    (data / "pets" / "train" / ".ipynb_checkpoints").mkdir()
    (data / "pets" / "train" / "cat" / "notes.txt").write_text("not an image")


@pytest.mark.parametrize("test", ["test", "val"])
def test_class_folders_sorted_are_the_labels(data, test):
    class_folders(data, test)
    assert str(data / "pets") in find_dataset("pets")
    pets = load_dataset("pets")
    assert (len(pets.train), len(pets.test), pets.n_classes, pets.image_shape) == (12, 12, 2, (3, 4, 5))
    red = pets.test.images[:, 0, 0, 0]
    assert torch.equal(pets.test.labels, (red >= 100).long())
    assert sorted(red.tolist()) == [*range(6), *range(100, 106)]
    assert pets.test.images[:, 2].unique().tolist() == [255]


def test_guarantee_class_folders_are_mixed_in_an_order_of_names_only(data):
    class_folders(data)
    first = load_dataset("pets")
    assert first.test.labels.tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1]
    for file in sorted((data / "pets").rglob("*.png")):  # new inodes, another order on disk
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert torch.equal(load_dataset("pets").test.images, first.test.images)


def test_class_folders_in_greyscale(data):
    for split in ("train", "test"):
        paint(data / "marks" / split / "a" / "1.png", 7, mode="L")
    assert load_dataset("marks").image_shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pets: paint(pets / "test" / "dog" / "9.png", size=(6, 4)), "one size and mode"),
        (lambda pets: paint(pets / "test" / "dog" / "9.png", mode="L"), "one size and mode"),
        (lambda pets: Image.new("P", (5, 4)).save(pets / "test" / "dog" / "9.png"), "mode P"),
        (lambda pets: (pets / "test" / "dog" / "9.png").write_bytes(b"no image"), "9.png"),
        (lambda pets: (pets / "test" / "dog" / "0.PNG").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "0.PNG"),
        (lambda pets: (pets / "test" / "bird").mkdir(), "'bird'"),
        (lambda pets: (pets / "train").rename(pets / "training"), "train"),
        (lambda pets: (pets / "test").rename(pets / "testing"), "test"),
        (lambda pets: [file.unlink() for file in (pets / "test").rglob("*.*")], "found none"),
    ],
)
def test_wrong_class_folders_are_one_sentence(data, spoil, said):
    class_folders(data)
    spoil(data / "pets")
    with pytest.raises(BenchError) as caught:
        load_dataset("pets")
    assert said in one_sentence(caught.value)


# ImageNet


def test_imagenet_lists_are_read_without_importing_robustbench():
    ids, labels = dataset_files.imagenet_test_ids(), dataset_files.imagenet_labels()
    assert len(ids) == len(set(ids)) == 5000
    assert ids[0] == "n09468604/ILSVRC2012_val_00015253.JPEG"
    assert list(labels) == sorted(labels)
    assert list(labels.values()) == list(range(1000))
    assert {each.split("/")[0] for each in ids} <= set(labels)


def test_imagenet_takes_the_listed_images_in_their_order(data, monkeypatch):
    ids = ["n01443537/b.JPEG", "n15075141/c.JPEG", "n01440764/a.JPEG"]
    monkeypatch.setattr(dataset_files, "imagenet_test_ids", lambda: ids)
    with pytest.raises(MissingError, match="cannot be downloaded"):
        load_dataset("imagenet")
    for index, each in enumerate(ids):
        paint(data / "imagenet" / "val" / each, index * 100, size=(300 + index, 280 - index))
    paint(data / "imagenet" / "val" / "n01440764" / "not-listed.JPEG")
    imagenet = load_dataset("imagenet")
    assert (len(imagenet.train), imagenet.n_classes, imagenet.image_shape) == (0, 1000, (3, 224, 224))
    assert imagenet.test.labels.tolist() == [1, 999, 0]
    assert (imagenet.test.images[:, 0].float().mean((1, 2)) - torch.tensor([0.0, 100, 200])).abs().max() < 3
    for index in range(12):
        paint(data / "imagenet" / "train" / "n01443537" / f"{index}.JPEG", index, size=(260, 260))
    paint(data / "imagenet" / "train" / "n01440764" / "grey.JPEG", 9, size=(230, 500), mode="L")
    imagenet = load_dataset("imagenet")
    assert torch.bincount(imagenet.train.labels).tolist() == [1, 10]
    (data / "imagenet" / "val" / ids[1]).unlink()
    with pytest.raises(MissingError, match=r"1 are absent, the first is .*c\.JPEG"):
        load_dataset("imagenet")


def test_imagenet_pixels_are_those_of_robustbench(data, monkeypatch):
    monkeypatch.setattr(dataset_files, "imagenet_test_ids", lambda: ["n01443537/b.png"])
    path = data / "imagenet" / "val" / "n01443537" / "b.png"
    path.parent.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (310, 411, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    t = torchvision.transforms
    theirs = t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor()])(Image.open(path).convert("RGB"))
    assert torch.equal(load_dataset("imagenet").test.pixels()[0], theirs)


# torchvision's files


def cifar(root, monkeypatch):
    """Write CIFAR-10 as torchvision keeps it, four images a batch, and let its checksums agree."""
    kind = torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    batch = {"data": np.arange(4 * 3072, dtype=np.int64).astype(np.uint8).reshape(4, 3072), "labels": [0, 9, 3, 4]}
    monkeypatch.setattr(kind, "train_list", [[name, write(name, batch)] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, write(name, batch)] for name, _ in kind.test_list])
    meta = {"label_names": list("abcdefghij")}
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": write(kind.meta["filename"], meta)})
    return batch["data"].reshape(4, 3, 32, 32)


@pytest.mark.parametrize("under", ["data", "data/cifar10", "cache/data/cifar10"])
def test_torchvision_files_are_found(tmp_path, monkeypatch, under):
    images = cifar(tmp_path / under, monkeypatch)
    assert find_dataset("cifar10") == f"torchvision's {tmp_path / under / 'cifar-10-batches-py'}"
    cifar10 = load_dataset("cifar10")
    assert (len(cifar10.train), len(cifar10.test), cifar10.n_classes) == (20, 4, 10)
    np.testing.assert_array_equal(cifar10.test.images.numpy(), images)
    assert cifar10.test.labels.tolist() == [0, 9, 3, 4]


def test_damaged_torchvision_files_are_one_sentence(data, monkeypatch):
    cifar(data, monkeypatch)
    (data / "cifar-10-batches-py" / "test_batch").write_bytes(b"half")
    (data / "MNIST" / "raw").mkdir(parents=True)
    for name in ("cifar10", "mnist"):
        with pytest.raises(UsageError) as caught:
            load_dataset(name)
        assert "delete that folder" in one_sentence(caught.value)


def idx(content):
    return struct.pack(f">HBB{content.ndim}I", 0, 8, content.ndim, *content.shape) + content.tobytes()


def test_the_download_reaches_the_cache_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("BENCH_OFFLINE")
    raw = {
        f"{split}-{what}": gzip.compress(idx(np.zeros(shape, np.uint8)))
        for split in ("train", "t10k")
        for what, shape in (("images-idx3-ubyte", (3, 28, 28)), ("labels-idx1-ubyte", (3,)))
    }

    def fetch(self):
        Path(self.raw_folder).mkdir(parents=True, exist_ok=True)
        print("fetching")
        for name, content in raw.items():
            (Path(self.raw_folder) / name).write_bytes(gzip.decompress(content))
            if broken:
                raise RuntimeError("tried\nno route")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fetch)
    broken = True
    with pytest.raises(MissingError, match=r"download failed .tried no route"):
        load_dataset("mnist")
    assert list((tmp_path / "cache" / "data").iterdir()) == []
    assert find_dataset("mnist") == "not found; downloaded on first use"
    broken = False
    (tmp_path / "cache" / "data" / "mnist").mkdir()
    (tmp_path / "cache" / "data" / "mnist" / "left over").touch()
    assert load_dataset("mnist").image_shape == (1, 28, 28)
    assert find_dataset("mnist").startswith("torchvision's")
    assert len(load_dataset("mnist").test) == 3
    assert capsys.readouterr().out == ""


# what is not there


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_missing_set_names_every_place_and_what_to_do(data, tmp_path, name):
    assert find_dataset(name) == "not found"
    with pytest.raises(MissingError) as caught:
        load_dataset(name)
    said = one_sentence(caught.value)
    folder = datasets.KNOWN[name].folder
    for place in (data / f"{name}.npz", data / name, data / folder, data / name / folder):
        assert str(place) in said
    assert str(tmp_path / "cache" / "data" / name / folder) in said
    assert "unset BENCH_OFFLINE" in said
    assert caught.value.exit_code == 3


def test_a_missing_set_says_that_the_folder_is_unset(monkeypatch):
    monkeypatch.delenv("BENCH_DATA_DIR")
    for name in ("cifar10", "imagenet"):
        with pytest.raises(MissingError, match=r"BENCH_DATA_DIR is unset.*; set BENCH_DATA_DIR to"):
            load_dataset(name)


@pytest.mark.parametrize(("name", "hint"), [("cifar-10", "cifar10"), ("CIFAR10", "cifar10"), ("MNIST", "mnist")])
def test_a_nearly_right_name(name, hint):
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'"):
        load_dataset(name)


def test_an_unknown_name_learns_what_a_set_looks_like(data):
    with pytest.raises(UsageError) as caught:
        load_dataset("zzz")
    said = one_sentence(caught.value)
    for part in (*KEYS, "train/CLASS/", "test/CLASS/", "digits", str(data)):
        assert part in said
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", ".", "..", "../mine", "/etc/mine", "a/b", ".hidden"])
def test_a_name_cannot_lead_out_of_the_data_folder(data, name):
    np.savez(data.parent / "mine.npz", **arrays())
    assert find_dataset(name) == "not found"
    with pytest.raises(UsageError):
        load_dataset(name)


# the real ones

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "n_train", "start"),
    [
        ("cifar10", (3, 32, 32), 50000, [3, 8, 8, 0, 6]),
        ("fashion-mnist", (1, 28, 28), 60000, [9, 2, 1, 1, 6]),
        ("mnist", (1, 28, 28), 60000, [7, 2, 1, 0, 4]),
    ],
)
def test_the_real_sets(monkeypatch, name, shape, n_train, start):
    if not (SHARED / f"{name}.npz").is_file():
        pytest.skip(f"{SHARED / name}.npz is absent")
    monkeypatch.setenv("BENCH_DATA_DIR", str(SHARED))
    loaded = load_dataset(name)
    assert (loaded.image_shape, loaded.n_classes, len(loaded.train), len(loaded.test)) == (shape, 10, n_train, 10000)
    assert loaded.test.labels[:5].tolist() == start
    if name != "mnist":
        assert torch.bincount(loaded.train.labels).tolist() == [n_train // 10] * 10
        assert torch.bincount(loaded.test.labels).tolist() == [1000] * 10
