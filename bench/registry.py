"""Name → thing, with "did you mean" for a name that is nearly right."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from bench.errors import UsageError


def did_you_mean(name: str, known: Iterable[str], *, see: str = "") -> str:
    """Return `" Did you mean 'x'?"` for a near miss, else what there is, or the command `see` that lists it."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    if see:
        return f" See {see}."
    return f" Known: {', '.join(known)}." if known else ""


class Registry:
    """A table of named things, each given as `"module:attribute"` so that listing names imports nothing.

    Args:
        kind: what the things are, for messages ("step", "data set").
        things: name → the thing itself, or `"package.module:attribute"`, imported on first use.
        more: `"package.module:function"`, called once, when a name is not among them or all names are asked for; it may
            add further things.
    """

    def __init__(self, kind: str, things: dict[str, Any], more: str = "") -> None:
        self.kind = kind
        self._things = dict(things)
        self._more = more

    def __iter__(self) -> Iterator[str]:
        self._complete()
        return iter(sorted(self._things))

    def __contains__(self, name: str) -> bool:
        if name not in self._things:
            self._complete()
        return name in self._things

    @contextmanager
    def lent(self, things: dict[str, Any]) -> Iterator[None]:
        """Register further things while the block lasts.

        Raises:
            UsageError: a name is taken.
        """
        for name in things:
            if name in self:
                raise UsageError(f"The {self.kind} '{name}' is already registered; choose another name.")
        self._things |= things
        try:
            yield
        finally:
            for name in things:
                del self._things[name]

    def add(self, name: str, thing: Any) -> None:
        """Register `thing` under a new name; an existing name is never replaced.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._things:
            raise UsageError(f"The {self.kind} '{name}' is already registered; choose another name.")
        self._things[name] = thing

    def check(self, name: str) -> None:
        """Raise UsageError, naming the nearest known name, unless `name` is registered."""
        if name not in self:
            raise UsageError(f"There is no {self.kind} '{name}'.{did_you_mean(name, self._things)}")

    def get(self, name: str) -> Any:
        """Return the thing called `name`, importing it if this is the first time.

        Raises:
            UsageError: no such name.
        """
        self.check(name)
        thing = self._things[name]
        if isinstance(thing, str):
            module, attribute = thing.split(":")
            thing = self._things[name] = getattr(importlib.import_module(module), attribute)
        return thing

    def _complete(self) -> None:
        more, self._more = self._more, ""
        if more:
            module, function = more.split(":")
            getattr(importlib.import_module(module), function)()
