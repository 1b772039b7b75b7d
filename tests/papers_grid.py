"""Made-up entries in the cells of the paper's grid."""

from typing import Any

from factories import make_entry

from bench.board.published import Published
from bench.entry import Entry
from bench.paper.study import Study, study
from bench.recipe import fingerprint, load_recipe
from bench.track import load_track

TRACK = "fashion-mnist-adverfine-v1"
N = 1000


def letters(robust: int, n: int = N) -> str:
    """So many robust images, then images that fell; of two models the one with more contains the other's."""
    return "." * robust + "a" * (n - robust)


def entry(
    recipe: str,
    robust: int,
    *,
    model: str = "bench:conv8",
    n: int = N,
    bops: int | None = None,
    track: str = TRACK,
    train_images: int | None = 60_000,
    finetune: int = 1_440_000,
    **more: Any,
) -> Entry:
    """An entry whose steps are those that its name spells."""
    made = make_entry(recipe, letters(robust, n), track=track, model=model, bops=bops, **more)
    steps = load_recipe(recipe.partition("+")[0]).steps
    record = made.recipe.model_copy(update={"steps": steps, "fingerprint": fingerprint(steps)})
    facts = {"train_images": train_images, "finetune_forward": finetune, "finetune_backward": finetune}
    return made.model_copy(update={"recipe": record, "effort": made.effort.model_copy(update=facts)})


def figure(name: str, *, parent: str = "standard", eps: str = "0.05", **compression: Any) -> Published:
    """A published row of the paper."""
    return Published.model_validate(
        {
            "name": name, "method": f"Adver-Fine, {parent} parent", "dataset": "fashion-mnist", "norm": "Linf",
            "eps": eps, "architecture": "conv8", "compression": compression, "clean": "85.0", "robust": "79.0",
            "attack": "PGD-20", "source": "https://example.org", "paper": "https://arxiv.org/abs/2403.09441",
            "obtained": ["claimed", "plot"],
        }
    )  # fmt: skip


FIGURES = [
    figure("prune50", kinds=["structured"], pruning_ratio=0.5),
    figure("prune10", kinds=["structured"], pruning_ratio=0.1),
    figure("quant4", kinds=["quantised"], weight_bits=4, activation_bits=4),
    figure("quant16", kinds=["quantised"], weight_bits=16, activation_bits=16),
    figure("adv-quant4", parent="adversarial", kinds=["quantised"], weight_bits=4, activation_bits=4),
]


def grid(*entries: Entry, track: str = TRACK) -> Study:
    """The study of these entries."""
    return study(load_track(track), entries, FIGURES)
