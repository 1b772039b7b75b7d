"""What an entry is called: what was asked of what, so that different measurements never overwrite each other.

Two recipe files of one name would: of these, the second is refused (`bench.replacing`).
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache


def entry_name(*, model: str, recipe: str, seed: int, images: int, asked: int, engine: str) -> str:
    """Return an entry's name, which is its file's.

    Args:
        model: SOURCE:NAME.
        recipe: its name.
        seed: named where it is not the usual one.
        images: how many were attacked.
        asked: how many the track asks for.
        engine: what `--engine` calls who attacked.
    """
    parts = [_slug(model), recipe]
    parts += [f"seed{seed}"] if seed else []
    parts += [f"n{images}"] if images < asked else []
    parts += [engine.removeprefix("bench-")] if engine != "bench" else []
    return "--".join(parts)


@lru_cache
def _slug(text: str) -> str:
    """Make a model's name fit for a file name: `checkpoint:a/net.pt@bench:conv8` → `checkpoint-net.pt-bench-conv8`."""
    source, _, rest = text.partition(":")
    parts = [source, *rest.split("@")]
    if source in ("checkpoint", "python"):
        # Two files of the same name in different folders are two models.
        parts[1] = parts[1].rsplit("/", 1)[-1]
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:6])
    return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(parts)).strip("-")
