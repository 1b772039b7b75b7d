"""Adversarial training: a step of ours against one of a plain textbook loop, same network, batch and attack steps.

    python benchmarks/finetune.py --models conv8 resnet18 --batch 64 --pairs 5 [--device cuda]

The textbook loop is what tutorials show: usual memory layout; the attack calls loss.backward(), which computes weight
gradients, too, and throws them away, after zero_grad at every attack step; the loss is read at every step. Both run in
one process, a step of each in turn; the ratio is the median over pairs. Weights are untrained and images made up.
"""

from __future__ import annotations

import argparse
import copy
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


def compare(name: str, options: argparse.Namespace) -> None:
    """Print one line: seconds a step of both, and their ratio."""
    device, shape, batch = torch.device(options.device), SHAPES[name], options.batch
    plain = build(name, shape, 10).to(device)
    ours = channels_last(copy.deepcopy(plain).cpu().eval(), shape).to(device)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, *shape), generator=generator).to(torch.uint8)
    examples = Examples(images=images, labels=torch.randint(10, (batch,), generator=generator)).to(device)
    threat = ThreatModel(norm="Linf", eps=parse_eps("8/255"))

    def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
        settings = {"steps": options.attack_steps, "step_size": RATIO * EPS, "generator": generator}
        return cross_entropy(model, pgd(model, images, labels, threat, **settings), labels)

    def our_steps() -> object:
        descent = Descent(batch_size=batch)
        amount = {"images": options.steps * batch, "generator": generator, "device": device}
        return train(ours, examples, objective, descent, report=silent, stage="", **amount)

    def textbook_steps() -> object:
        pixels = examples.pixels()
        return [
            textbook_step(plain, optimizer, pixels, examples.labels, options.attack_steps) for _ in range(options.steps)
        ]

    textbook_steps(), our_steps()
    pairs = [(seconds(textbook_steps, device), seconds(our_steps, device)) for _ in range(options.pairs)]
    theirs, mine = (median(pair[side] for pair in pairs) / options.steps for side in (0, 1))
    ratios = sorted(textbook / own for textbook, own in pairs)
    print(f"{name:<10} {batch:>6} {theirs:>10.4f} {mine:>8.4f} {median(ratios):>7.2f}", end="")
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
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"PGD-{options.attack_steps}, {options.threads} threads, {options.device}, torch {torch.__version__}")
    print(
        f"{'network':<10} {'batch':>6} {'textbook s':>10} {'ours s':>8} {'ratio':>7}   spread of {options.pairs} pairs"
    )
    for name in options.models:
        compare(name, options)


if __name__ == "__main__":
    main()
