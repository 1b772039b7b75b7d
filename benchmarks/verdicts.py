"""Do two attack engines give the same verdicts? Several seeds of each, image by image.

    python benchmarks/verdicts.py --model autoattack:resnet18 --track cifar10-linf-v1 --images 8
    python benchmarks/verdicts.py --engines bench bench-tf32 --recipe quant8-advft --images 400

The whole suite at full budget. Prints a line for each run as it ends, then: how many images are robust under each seed
of either engine; on how many images the engines differ, on average over all pairs of seeds; and on how many the first
differs from itself, which is the yardstick: both draw their starting points and squares at random.

On a CPU a search in TensorFloat-32 is imitated: whatever its convolutions multiply is rounded to 10 bits of mantissa.
What its linear layers multiply is not, though CUDA rounds it too.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from bench.attack import field
from bench.attack.engine import Trial, run_suite
from bench.attack.engines import ENGINES, new_engine
from bench.compress.bake import bake, fold
from bench.compress.trace import trace
from bench.load.datasets import load_dataset
from bench.machine.device import pick_device
from bench.machine.tensor_float import forbid_tensor_float
from bench.model import ModelSpec, Subject
from bench.parent import load_parent
from bench.prepare import prepare
from bench.progress import silent
from bench.recipe import load_recipe
from bench.request import Request
from bench.run.journal import FileJournal
from bench.track import load_track
from bench.verdicts import STANDING

aten = torch.ops.aten


class Rounded(TorchDispatchMode):
    """Imitates TensorFloat-32: rounds what convolutions and their gradients multiply, and adds up in float32."""

    def __torch_dispatch__(self, op: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        factors = {aten.convolution.default: 2, aten.convolution_backward.default: 3}.get(op, 0)
        return op(*map(tensor_float, arguments[:factors]), *arguments[factors:], **(named or {}))


def tensor_float(values: Tensor) -> Tensor:
    """Return the nearest float32 numbers with 10 bits of mantissa, of two the even one."""
    words = values.view(torch.int32)
    return ((words + 0xFFF + ((words >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def fates(trial: Trial) -> str:
    """Return one letter for each image."""
    with tempfile.TemporaryDirectory() as folder:
        journal = FileJournal(Path(folder) / "journal.json")
        return run_suite(trial, "standard", journal=journal, report=silent).letters


def apart(one: str, other: str) -> int:
    """Return the number of images that stand in one run and not in the other."""
    return sum((a == STANDING) != (b == STANDING) for a, b in zip(one, other, strict=True))


def main() -> None:
    """Read the options, run every seed of either engine, print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="", help="SOURCE:NAME; the track's own when left out")
    parser.add_argument("--recipe", default="none", help="what to make of the model first")
    parser.add_argument("--track", default="digits-linf-v1", help="a name, or a .toml file")
    parser.add_argument("--engines", nargs=2, default=["reference", "bench"], choices=list(ENGINES))
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--trust", action="store_true", help="let python: models run their code")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    forbid_tensor_float()
    track, device = load_track(options.track), pick_device(options.device)
    dataset = load_dataset(track.dataset)
    spec = ModelSpec.parse(options.model or track.model)
    request = Request(recipe=load_recipe(options.recipe), track=track, model=spec, trust=options.trust)
    model = load_parent(request, dataset, device, silent)
    network = prepare(request, model, dataset, device, silent).subject.twin
    traced = network if isinstance(network, fx.GraphModule) else trace(network, dataset.image_shape, device)
    twin = bake(fold(traced))
    print(f"{options.recipe} of {spec}, {track.threat}, first {options.images} images of {track.dataset}", flush=True)
    if device.type == "cpu":
        field.tensor_float = Rounded
    first, second = options.engines
    letters: dict[str, list[str]] = {first: [], second: []}
    for seed, name in itertools.product(range(options.seeds), letters):
        trial = Trial(
            subject=Subject.of(twin),
            examples=dataset.test.first(options.images),
            threat=track.threat,
            n_classes=dataset.n_classes,
            seed=seed,
            device=device,
            engine=new_engine(name),
        )
        letters[name].append(fates(trial))
        print(f"  {name:<10} seed {seed}  {letters[name][-1]}", flush=True)
    robust = {name: [each.count(STANDING) for each in found] for name, found in letters.items()}
    between = [apart(*pair) for pair in itertools.product(letters[first], letters[second])]
    within = [apart(*pair) for pair in itertools.combinations(letters[first], 2)]
    print(f"clean {options.images - letters[second][0].count('x')}, robust: {first} {robust[first]}, ", end="")
    print(f"{second} {robust[second]}; engines differ on {mean(between):.3g} images, ", end="")
    print(f"{first} from itself on {mean(within or [0]):.3g}")


if __name__ == "__main__":
    main()
