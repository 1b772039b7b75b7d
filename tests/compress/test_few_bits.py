"""Few bits on the digits: what training and learned steps give back of the float network's accuracy."""

import pytest
import torch

from bench.compress.quantize import Quantize
from bench.finetune.adversarial import FinetuneAdversarial, pgd
from bench.finetune.clean import FinetuneClean, cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import train
from bench.load.architectures import build
from bench.load.datasets import load_digits
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

DIGITS = load_digits()
THREAT = ThreatModel(norm="Linf", eps=parse_eps("0.1"))
LEARNED = {"range": "mse", "learn_steps": True}


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    network = build("digits-cnn", (1, 8, 8), 10)
    descent = Descent(optimizer="adamw", learning_rate=2e-3, batch_size=32)
    settings = {"generator": torch.Generator().manual_seed(0), "device": torch.device("cpu"), "report": silent}
    train(network, DIGITS.train, cross_entropy, descent, images=32 * 260, stage="", **settings)
    return Subject.of(network)


def ingredients(images: int) -> Ingredients:
    return Ingredients(
        train=DIGITS.train,
        threat=THREAT,
        finetune_images=images,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        meter=Meter(),
    )


def accuracy(model, images=None) -> float:
    with torch.no_grad():
        logits = model(DIGITS.test.pixels() if images is None else images)
    return (logits.argmax(1) == DIGITS.test.labels).double().mean().item()


def robust(model) -> float:
    images, labels = DIGITS.test.pixels(), DIGITS.test.labels
    return accuracy(model, pgd(model, images, labels, THREAT, steps=5, step_size=0.04, generator=None))


def finetuned(subject: Subject, step, images: int, **settings):
    given = ingredients(images)
    return step(Quantize(**settings)(subject, given), given).twin


def test_four_and_two_bits_come_near_the_float_network_where_minmax_does_not(subject):
    float32 = accuracy(subject.parent)
    four = finetuned(subject, FinetuneClean(), 64 * 40, weight_bits=4, activation_bits=4, **LEARNED)
    two = finetuned(subject, FinetuneClean(), 64 * 80, weight_bits=2, activation_bits=2, **LEARNED)
    plain = finetuned(subject, FinetuneClean(), 64 * 80, weight_bits=2, activation_bits=2)
    print(f"float {float32:.4f} W4A4 {accuracy(four):.4f} W2A2 {accuracy(two):.4f} W2A2 min-max {accuracy(plain):.4f}")
    assert float32 > 0.95
    assert accuracy(four) > float32 - 0.015
    assert accuracy(two) > float32 - 0.04
    assert accuracy(plain) < accuracy(two) - 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "first_last"),
    [(4, 4, None), (3, 3, None), (2, 2, None), (2, 2, 8), (1, 8, None)],
)
def test_adversarial_training_does_not_collapse(subject, weight_bits, activation_bits, first_last):
    step = FinetuneAdversarial(attack_steps=4)
    settings = {"weight_bits": weight_bits, "activation_bits": activation_bits, "first_last_bits": first_last}
    twin = finetuned(subject, step, 64 * 200, **settings, **LEARNED)
    print(f"{settings}: clean {accuracy(twin):.4f} robust {robust(twin):.4f}, parent {robust(subject.parent):.4f}")
    assert accuracy(twin) > 0.85
    assert robust(twin) > robust(subject.parent) + 0.1
