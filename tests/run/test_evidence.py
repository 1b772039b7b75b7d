"""Adversarial images come back bit for bit, from a file that is smaller than the images, and never from another."""

import numpy as np
import pytest
import torch

from bench.dataset import Examples
from bench.errors import UsageError
from bench.run.evidence import Deciding, digest_of_file, read_evidence, write_evidence
from bench.threat_model import ThreatModel, parse_eps

SHAPE, N = (1, 8, 8), 40


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def examples() -> Examples:
    images = torch.randint(0, 17, (N, *SHAPE), generator=drawn(0)).mul(15).to(torch.uint8)
    return Examples(images=images, labels=torch.zeros(N, dtype=torch.int64))


def threat(norm: str) -> ThreatModel:
    return ThreatModel(norm=norm, eps=parse_eps("8/255" if norm == "Linf" else "0.5"))


def deciding(examples: Examples, norm: str) -> Deciding:
    """As attacks leave them: most pixels on the ball's faces under Linf, anywhere under L2; one image of odd values."""
    numbers = torch.arange(0, N, 2)
    clean = examples.pixels(numbers)
    noise = torch.randn(clean.shape, generator=drawn(1))
    images = threat(norm).project(clean + (noise.sign() if norm == "Linf" else noise), clean)
    images[3] = torch.rand(SHAPE, generator=drawn(2))
    images[4, 0, 0, :3] = torch.tensor([torch.nan, -0.0, 1e-42])
    return Deciding(numbers=numbers, letters="ab" * (len(numbers) // 2), images=images)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_images_come_back_bit_for_bit(tmp_path, examples, norm, monkeypatch):
    monkeypatch.setattr("bench.run.evidence._TOGETHER", 7)
    made = deciding(examples, norm)
    record = write_evidence(tmp_path / "some.npz", made, examples, threat(norm))
    assert (record.file, record.images) == ("some.npz", len(made.numbers))
    assert record.digest == digest_of_file(tmp_path / "some.npz")
    found = read_evidence(tmp_path / "some.npz", examples, threat(norm))
    assert torch.equal(found.images.view(torch.int32), made.images.view(torch.int32))
    assert torch.equal(found.numbers, made.numbers)
    assert found.letters == made.letters


def test_images_on_the_faces_of_the_ball_take_a_fraction_of_their_room(tmp_path, examples):
    made = deciding(examples, "Linf")
    write_evidence(tmp_path / "some.npz", made, examples, threat("Linf"))
    with np.load(tmp_path / "some.npz") as stored:
        assert stored["planes"].mean() < 30  # one image of noise, a few of which the clean value is nearest
    np.savez_compressed(tmp_path / "plain.npz", images=made.images.numpy())
    assert (tmp_path / "some.npz").stat().st_size < (tmp_path / "plain.npz").stat().st_size + 1500  # names of arrays


def test_no_images_are_a_file_too(tmp_path, examples):
    none = Deciding(numbers=torch.zeros(0, dtype=torch.int64), letters="", images=torch.zeros(0, *SHAPE))
    assert write_evidence(tmp_path / "none.npz", none, examples, threat("Linf")).images == 0
    assert read_evidence(tmp_path / "none.npz", examples, threat("Linf")).images.shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": np.int64(2)}, "has format 2"),
        ({"numbers": np.array([0, 0])}, "of each image once"),
        ({"numbers": np.array([0, N])}, f"beyond the {N}"),
        ({"numbers": np.array([-1, 0])}, f"beyond the {N}"),
        ({"letters": np.frombuffer(b"a", np.uint8)}, "of each image once"),
        ({"shape": np.array([1, 4, 16])}, r"holds images \(1, 4, 16\)"),
        ({"nearest": np.full(128, 7, np.uint8)}, "is damaged"),
        ({"nearest": np.zeros(100, np.uint8)}, "is damaged"),
        ({"planes": np.zeros((3, 128), np.uint8)}, "is damaged"),
        ({"planes": np.array([{"pickled": 1}], dtype=object)}, "is damaged"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, examples, changes, sentence):
    good = {
        "format": np.int64(1), "numbers": np.array([0, 1]), "letters": np.frombuffer(b"ab", np.uint8),
        "shape": np.array(SHAPE), "nearest": np.zeros(128, np.uint8), "planes": np.zeros((4, 128), np.uint8),
    }  # fmt: skip
    np.savez(tmp_path / "good.npz", **good)
    assert torch.equal(read_evidence(tmp_path / "good.npz", examples, threat("Linf")).images, examples.pixels()[:2])
    np.savez(tmp_path / "bad.npz", **good | changes)
    with pytest.raises(UsageError, match=sentence):
        read_evidence(tmp_path / "bad.npz", examples, threat("Linf"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04."])
def test_what_is_no_archive_is_refused(tmp_path, examples, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(UsageError, match="is not a file of adversarial images"):
        read_evidence(tmp_path / "bad.npz", examples, threat("Linf"))
