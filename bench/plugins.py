"""Packages that bring steps, models and data sets: entry points in the group `bench.plugins`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from bench.errors import described
from bench.registry import Registry

GROUP = "bench.plugins"

_packages: dict[str, str] = {}
"""Version by package, of those that registered something."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A registry, as one package sees it: what it adds is called `PACKAGE/NAME`, so nobody takes anybody's name."""

    package: str
    registry: Registry

    def add(self, name: str, thing: Any) -> None:
        """Register a thing, or the `"module:attribute"` that is imported when it is first asked for.

        Raises:
            UsageError: the package has registered that name before.
        """
        self.registry.add(f"{self.package}/{name}", thing)


@dataclass(frozen=True, kw_only=True)
class Shelves:
    """What an entry point is called with.

    Attributes:
        steps: frozen dataclasses, as in `bench.recipe.Step`; `step = "PACKAGE/NAME"` in a recipe.
        models: functions that return an nn.Module; `--model plugin:PACKAGE/NAME`.
        datasets: functions that return a `bench.dataset.Dataset`; `dataset = "PACKAGE/NAME"` in a track.
    """

    steps: Shelf
    models: Shelf
    datasets: Shelf


@cache
def register_all() -> None:
    """Call every entry point of the group once; one that fails costs a warning, and nothing else."""
    points = metadata.entry_points(group=GROUP)
    if not points:
        return
    from bench.load.plugged import DATASETS, MODELS
    from bench.recipe import STEPS

    for point in points:
        package = re.sub(r"[-_.]+", "-", point.dist.name if point.dist else point.name).lower()
        steps, models, datasets = (Shelf(package=package, registry=registry) for registry in (STEPS, MODELS, DATASETS))
        try:
            found = point.load()
            (found if callable(found) else found.register)(Shelves(steps=steps, models=models, datasets=datasets))
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            sentence = (
                f"warning: The plugin {point.name} ({package}, {point.value}) raised {described(error)}; "
                "what it registers is missing. Update or uninstall that package."
            )
            print(sentence, file=sys.stderr)
            continue
        _packages[package] = point.dist.version if point.dist else "unknown"


def packages_of(names: Iterable[str]) -> dict[str, str]:
    """Return package → version of those that brought the things of these names."""
    owners = {name.partition("/")[0] for name in names if "/" in name}
    return {package: version for package, version in sorted(_packages.items()) if package in owners}
