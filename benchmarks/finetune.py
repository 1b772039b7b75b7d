"""Adversarial training: a step of ours against one of a plain textbook loop, same network, batch and attack steps.

    python benchmarks/finetune.py --models conv8 resnet18 --batch 64 --pairs 5 [--device cuda]

The textbook loop is what tutorials show: usual memory layout; the attack calls loss.backward(), which computes weight
gradients, too, and throws them away, after zero_grad at every attack step; the loss is read at every step. Steps of
both are timed in turn, each loop in a process of its own, because ours tells the C library to keep freed memory, which
would help the textbook's, too. The ratio is the median over pairs. Weights are untrained and images made up.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.dataset import Examples
from bench.finetune.clean import cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import train
from bench.finetune.pgd import pgd
from bench.load.architectures import build
from bench.load.layout import channels_last
from bench.progress import silent
from bench.threat_model import ThreatModel, parse_eps

SHAPES = {"conv8": (1, 28, 28), "resnet18": (3, 32, 32)}
EPS, RATIO = 8 / 255, 0.25
Loop = Callable[[nn.Module, Examples, argparse.Namespace], Callable[[], object]]
"""Makes a loop of a network, images and options: what takes its next steps."""
_act: Callable[[], object]
_device: torch.device


def textbook_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, attack_steps: int
) -> float:
    """Train on one batch of PGD's images; return the loss."""
    model.eval()
    adversarial = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(attack_steps):
        adversarial.requires_grad_()
        model.zero_grad()
        loss = F.cross_entropy(model(adversarial), labels)
        loss.backward()
        loss.item()
        assert adversarial.grad is not None
        moved = adversarial.detach() + RATIO * EPS * adversarial.grad.sign()
        adversarial = (images + (moved - images).clamp(-EPS, EPS)).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(adversarial), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def seconds(act: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def textbook(plain: nn.Module, examples: Examples, options: argparse.Namespace) -> Callable[[], object]:
    """Return what takes the textbook's steps."""
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def act() -> object:
        pixels, labels = examples.pixels(), examples.labels
        return [textbook_step(plain, optimizer, pixels, labels, options.attack_steps) for _ in range(options.steps)]

    return act


def ours(plain: nn.Module, examples: Examples, options: argparse.Namespace) -> Callable[[], object]:
    """Return what takes our steps."""
    device, generator = examples.labels.device, torch.Generator().manual_seed(0)
    channels, height, width = examples.images.shape[1:]
    network = channels_last(plain.cpu().eval(), (channels, height, width)).to(device)
    threat = ThreatModel(norm="Linf", eps=parse_eps("8/255"))

    def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
        settings = {"steps": options.attack_steps, "step_size": RATIO * EPS, "generator": generator}
        return cross_entropy(model, pgd(model, images, labels, threat, **settings), labels)

    def act() -> object:
        amount = {"images": options.steps * options.batch, "generator": generator, "device": device}
        return train(network, examples, objective, Descent(batch_size=options.batch), report=silent, stage="", **amount)

    return act


def begin(loop: Loop, name: str, options: argparse.Namespace) -> None:
    """Make network and images in a process of one of the loops, and take its first steps."""
    global _act, _device
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    _device, shape = torch.device(options.device), SHAPES[name]
    images = torch.randint(256, (options.batch, *shape), dtype=torch.uint8)
    examples = Examples(images=images, labels=torch.randint(10, (options.batch,))).to(_device)
    _act = loop(build(name, shape, 10).to(_device), examples, options)
    _act()


def timed() -> float:
    """Return the seconds that the loop of this process takes for its steps."""
    return seconds(_act, _device)


def compare(name: str, options: argparse.Namespace) -> None:
    """Print one line: seconds a step of both, and their ratio."""
    spawn = multiprocessing.get_context("spawn").Pool
    with spawn(1, begin, (textbook, name, options)) as theirs, spawn(1, begin, (ours, name, options)) as mine:
        theirs.apply(timed), mine.apply(timed)  # both have begun
        pairs = [(theirs.apply(timed), mine.apply(timed)) for _ in range(options.pairs)]
    textbook_s, our_s = (median(pair[side] for pair in pairs) / options.steps for side in (0, 1))
    ratios = sorted(slow / fast for slow, fast in pairs)
    print(f"{name:<10} {options.batch:>6} {textbook_s:>10.4f} {our_s:>8.4f} {median(ratios):>7.2f}", end="")
    print(f"   {ratios[0]:.2f} … {ratios[-1]:.2f}", flush=True)


def main() -> None:
    """Read the options, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--attack-steps", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="training steps timed at a time; more on a fast device")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"PGD-{options.attack_steps}, {options.threads} threads, {options.device}, torch {torch.__version__}")
    print(
        f"{'network':<10} {'batch':>6} {'textbook s':>10} {'ours s':>8} {'ratio':>7}   spread of {options.pairs} pairs"
    )
    for name in options.models:
        compare(name, options)


if __name__ == "__main__":
    main()
