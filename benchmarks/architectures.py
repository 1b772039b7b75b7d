"""Which architectures can be pruned, at which ratio, and what is left: writes docs/architectures.md.

Every network is untrained and sees random images: this is about structure, not accuracy. For each architecture and
ratio: prune, forward, gradient to the image, one step of fine-tuning, copy, trace, save, reload, quantise. Results are
added to the JSON file as they come, and what is there is not run again.

    python benchmarks/architectures.py [--only NAME ...] [--ratios 0.5 ...] [--out docs/architectures.json] [--render]
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.compress.trace import trace
from bench.dataset import Examples
from bench.errors import BenchError
from bench.load.architectures import build
from bench.load.normalize import Normalization, normalized
from bench.load.robustbench_zoo import ZooName, zoo_architecture, zoo_names
from bench.load.timm_models import untrained
from bench.measure.macs import count_macs
from bench.model import Subject, Task
from bench.progress import Event
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

Shape = tuple[int, int, int]
SMALL, BIG = (0.1, 0.3, 0.5, 0.7, 0.9), (0.1, 0.5, 0.9)
BIG_PARAMETERS, MOST_PARAMETERS = 15_000_000, 60_000_000
BENCH = ("conv8", "resnet18", "resnet20", "preact-resnet18", "wrn-28-10")
TIMM = (
    *("resnet18", "mobilenetv2_100", "convnext_atto", "vit_tiny_patch16_224", "deit_tiny_patch16_224"),
    *("swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224"),
)


_INTRODUCTION = f"""# Which architectures can be pruned

What is left of the MACs of one image, in per cent, when `prune-channels` removes the share of channels at the head of a
column: importance `l1`, scope `uniform`, no rounding. An empty cell was not tried: networks above
{BIG_PARAMETERS / 1e6:.0f} M parameters or with images of 224×224 are tried at three ratios. Each figure stands for a
network that afterwards gave finite logits and gradients to the image, took a step of fine-tuning, survived a copy, and
was traced, saved, reloaded with the same logits. W8A8 says whether it could be quantised then (big networks: tried at
0.5). Weights are untrained and images random: this is about structure, not accuracy.

The channels that go are proven to be the right ones: the narrow network computes what the whole one computes with the
weights that read them at zero. *Inside blocks only* means that this cannot be had for the channels that several layers
add up (the residual stream), because torch-pruning does not follow how they are tied; hidden layers of blocks and
dimensions of attention heads are pruned, and MACs fall to about 1 − ratio instead of (1 − ratio)².

Written by `python benchmarks/architectures.py` from `architectures.json`."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network to try: its name in the bench, the shape of its images, and how to build it."""

    name: str
    shape: Shape
    make: Callable[[], nn.Module]


def architectures(zoo: dict[str, Any]) -> list[Architecture]:
    """Return all architectures; `zoo` is what `survey_zoo` found."""
    half = Normalization(mean=(0.5,), std=(0.25,))
    cifar, imagenet = (3, 32, 32), (3, 224, 224)
    task = Task(dataset="imagenet", image_shape=imagenet, n_classes=10, norm="Linf")
    ours = [
        Architecture(name=f"bench:{name}", shape=shape, make=lambda n=name, s=shape: normalized(build(n, s, 10), half))
        for name, shape in ((name, (1, 28, 28) if name == "conv8" else cifar) for name in BENCH)
    ]
    theirs = [
        Architecture(
            name=f"robustbench:cifar10/{name}", shape=cifar, make=lambda n=name: zoo_architecture(_zoo_name(n))
        )
        for name in zoo["architectures"]
    ]
    timm = [
        Architecture(name=f"timm:{n}", shape=imagenet, make=lambda n=n: normalized(untrained(n, task), half))
        for n in TIMM
    ]
    return [*ours, *timm, *theirs]


def _zoo_name(text: str) -> ZooName:
    threat, name = text.split("/")
    return ZooName(dataset="cifar10", threat=threat, name=name)


def survey_zoo() -> dict[str, Any]:
    """Return {first name: names of the zoo that share its architecture}, and what cannot be built."""
    same: dict[int, list[str]] = {}
    broken: dict[str, str] = {}
    for text in [
        f"{threat}/{name}" for threat in ("Linf", "L2", "corruptions") for name in zoo_names("cifar10", threat)
    ]:
        try:
            with torch.device("meta"):
                network = zoo_architecture(_zoo_name(text))
        except BenchError:
            try:
                network = zoo_architecture(_zoo_name(text))
            except BenchError as error:
                broken[text] = str(error)
                continue
        if sum(parameter.numel() for parameter in network.parameters()) <= MOST_PARAMETERS:
            shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
            same.setdefault(hash((str(shapes), str(network))), []).append(text)
    return {"architectures": {names[0]: names for names in same.values()}, "broken": broken}


def try_ratio(model: nn.Module, shape: Shape, ratio: float, *, quantise: bool) -> dict[str, Any]:
    """Put one network through everything at one ratio; return what is left of it, or the sentence why not."""
    notes: list[str] = []
    given = _ingredients(shape, notes)
    subject = Subject.of(model)
    try:
        pruned = PruneChannels(ratio=ratio, recalibration_images=8)(subject, given)
    except BenchError as error:
        return {"error": str(error)}
    twin = pruned.twin
    found: dict[str, Any] = {
        "macs": count_macs(twin, shape).macs,
        "parameters": sum(parameter.numel() for parameter in twin.parameters()),
        "inside": notes[-1].endswith("inside blocks only"),
    }
    images = given.train.pixels(slice(2))
    checks = {"gradient": _gradient, "fine-tune": _finetune, "copy": _copy, "trace, save, reload": _reload}
    for name, check in checks.items():
        try:
            problem = check(twin, images)
        except Exception as error:  # a foreign network may raise anything
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if problem:
            found.setdefault("problems", {})[name] = problem
    if quantise:
        try:
            logits = Quantize(calibration_images=8)(pruned, given).twin(images)
            found["quantised"] = "ok" if bool(logits.isfinite().all()) else "logits that are not finite"
        except BenchError as error:
            found["quantised"] = str(error)
    return found


def _ingredients(shape: Shape, notes: list[str]) -> Ingredients:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, *shape), generator=generator).to(torch.uint8)

    def report(event: Event) -> None:
        if event.note:
            notes.append(event.note)

    return Ingredients(
        train=Examples(images=images, labels=torch.randint(10, (8,), generator=generator)),
        threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
        finetune_images=0,
        generator=generator,
        device=torch.device("cpu"),
        report=report,
        meter=Meter(),
    )


def _gradient(model: nn.Module, images: Tensor) -> str:
    images = images.clone().requires_grad_()
    logits = model(images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    fine = bool(logits.isfinite().all() and gradient.isfinite().all() and gradient.any())
    return "" if fine else "logits or gradients are zero or not finite"


def _finetune(model: nn.Module, images: Tensor) -> str:
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    loss = F.cross_entropy(model(images), torch.tensor([1, 2]))
    loss.backward()
    optimizer.step()
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return "" if bool(after.isfinite().all()) and not torch.equal(before, after) else "the weights did not move"


def _copy(model: nn.Module, images: Tensor) -> str:
    with torch.no_grad():
        return "" if torch.equal(copy.deepcopy(model)(images), model(images)) else "a copy gives other logits"


def _reload(model: nn.Module, images: Tensor) -> str:
    traced = trace(model, tuple(images.shape[1:]), images.device)
    with torch.no_grad():
        expected, blank = traced(images), copy.deepcopy(traced)
        for tensor in blank.state_dict().values():
            tensor.zero_()
        state = {name: value.contiguous() for name, value in traced.state_dict().items()}
        blank.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)))
        return "" if torch.equal(blank(images), expected) else "the reloaded network gives other logits"


def main() -> None:
    """Run what is missing, then render."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of names")
    parser.add_argument("--ratios", nargs="*", type=float, help="default: five for small networks, three for big ones")
    parser.add_argument("--out", type=Path, default=Path("docs/architectures.json"))
    parser.add_argument("--render", action="store_true", help="render the page, run nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"rows": {}}
    if "zoo" not in results:
        results["zoo"] = survey_zoo()
    for architecture in architectures(results["zoo"]):
        if not arguments.render and (not arguments.only or any(part in architecture.name for part in arguments.only)):
            run(architecture, results, arguments.ratios, arguments.out)
    arguments.out.with_suffix(".md").write_text(render(results))


def run(architecture: Architecture, results: dict[str, Any], ratios: list[float] | None, out: Path) -> None:
    """Add one architecture's missing ratios to the results, and the results to the file."""
    row = results["rows"].get(architecture.name, {"ratios": {}})
    if row.get("chosen") and all(str(ratio) in row["ratios"] for ratio in ratios or row["chosen"]):
        return
    torch.manual_seed(0)
    model = architecture.make().eval()
    _shake(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    big = parameters > BIG_PARAMETERS or architecture.shape[1] > 64
    row |= {
        "parameters": parameters,
        "macs": count_macs(model, architecture.shape).macs,
        "chosen": BIG if big else SMALL,
    }
    for ratio in [ratio for ratio in ratios or row["chosen"] if str(ratio) not in row["ratios"]]:
        start = time.perf_counter()
        found = try_ratio(model, architecture.shape, ratio, quantise=not big or ratio == 0.5)
        row["ratios"][str(ratio)] = found
        left = f"{found['macs'] / row['macs']:.1%} of MACs" if "macs" in found else found["error"]
        extra = {key: found[key] for key in ("inside", "problems", "quantised") if found.get(key)}
        print(f"{architecture.name} {ratio}: {left} {extra or ''} ({time.perf_counter() - start:.0f} s)", flush=True)
        results["rows"][architecture.name] = row
        out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _shake(model: nn.Module) -> None:
    """Move what starts out at zero or one (scales, shifts, statistics), so that every channel has a say."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for name, b in model.named_buffers() if "running" in name)):
            if tensor.is_floating_point() and tensor.numel() > 1 and tensor.std() < 1e-3:
                tensor.add_(0.1 * torch.rand_like(tensor))


def render(results: dict[str, Any]) -> str:
    """Return the page."""
    footnotes: list[str] = []
    ratios = " | ".join(f"{ratio:g}" for ratio in SMALL)
    lines = [
        *_INTRODUCTION.splitlines(),
        "",
        f"| architecture | source | parameters M | MACs M | {ratios} | W8A8 | notes |",
        f"| --- | --- | ---: | ---: | {' | '.join('---:' for _ in SMALL)} | --- | --- |",
    ]
    aliases = {f"robustbench:cifar10/{name}": names for name, names in results["zoo"]["architectures"].items()}
    for name in (architecture.name for architecture in architectures(results["zoo"])):
        if (row := results["rows"].get(name)) is None:
            continue
        cells = [_cell(row, row["ratios"].get(str(ratio)), footnotes) for ratio in SMALL]
        tried = [found.get("quantised", "") for found in row["ratios"].values() if found.get("quantised")]
        failed = [reason for reason in tried if reason != "ok"]
        quantised = _note("–", failed[0], footnotes) if failed else "ok" if tried else ""
        notes = "inside blocks only" if any(found.get("inside") for found in row["ratios"].values()) else ""
        if len(others := aliases.get(name, [])) > 1:
            notes += ("; " if notes else "") + f"{len(others)} models share it"
        source, _, architecture = name.partition(":")
        size = f"{row['parameters'] / 1e6:.2f} | {row['macs'] / 1e6:,.0f}"
        lines.append(f"| {architecture} | {source} | {size} | {' | '.join(cells)} | {quantised} | {notes} |")
    lines += ["", *footnotes, *([""] if footnotes else []), "## Models of RobustBench that share an architecture", ""]
    lines += [f"- {name}: {', '.join(others[1:])}" for name, others in sorted(aliases.items()) if len(others) > 1]
    waiting = _waiting(results)
    if waiting:
        lines += ["", "## Not run yet", "", *waiting]
    lines += ["", "## Not built", "", *(f"- {name}: {why}" for name, why in results["zoo"]["broken"].items())]
    return "\n".join(lines) + "\n"


def _waiting(results: dict[str, Any]) -> list[str]:
    """Return a line for each architecture of which ratios are missing."""
    lines = []
    for name in (architecture.name for architecture in architectures(results["zoo"])):
        row = results["rows"].get(name)
        missing = (
            [f"{ratio:g}" for ratio in row["chosen"] if str(ratio) not in row["ratios"]] if row else ["all ratios"]
        )
        if missing:
            lines.append(f"- {name}: {', '.join(missing)}")
    return lines


def _cell(row: dict[str, Any], found: dict[str, Any] | None, footnotes: list[str]) -> str:
    if found is None:
        return ""
    if "error" in found:
        return _note("–", found["error"], footnotes)
    share = f"{100 * found['macs'] / row['macs']:.1f}"
    problems = "; ".join(f"{check}: {problem}" for check, problem in found.get("problems", {}).items())
    return _note(share, problems, footnotes) if problems else share


def _note(text: str, reason: str, footnotes: list[str]) -> str:
    """Return the text with the number of its footnote, which is written once."""
    known = [line.partition("]: ")[2] for line in footnotes]
    if reason not in known:
        footnotes.append(f"[^{len(footnotes) + 1}]: {reason}")
        known.append(reason)
    return f"{text}[^{known.index(reason) + 1}]"


if __name__ == "__main__":
    main()
