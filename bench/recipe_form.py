"""The form of a recipe's TOML: its keys and their types, and how settings of an extended recipe are changed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from bench.errors import UsageError
from bench.faults import is_line
from bench.model import ModelSpec
from bench.registry import did_you_mean

KEYS = ("summary", "extends", "set", "model", "track", "seeds", "steps")
SETTING = "steps.INDEX.KEY"
LARGEST_SEED = 2**63 - 1
"""PyTorch's generators take no more."""


def read_form(text: str, name: str) -> dict[str, Any]:
    """Return a recipe's table, each key of the right type; which steps there are, others know.

    Raises:
        UsageError: not TOML, an unknown key, no summary, or a value of the wrong type.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Recipe {name} is not valid TOML: {error}.") from error
    for key in raw:
        if key not in KEYS:
            raise UsageError(f"Recipe {name}: unknown key '{key}'.{did_you_mean(key, KEYS)}")
    if not isinstance(raw.get("summary"), str) or not is_line(raw["summary"]):
        raise UsageError(f'Recipe {name}: expected summary = "one line", got {raw.get("summary")!r}.')
    _check_pins(raw, name)
    if "set" in raw and ("extends" not in raw or not isinstance(raw["set"], dict)):
        raise UsageError(
            f"Recipe {name}: expected [set] as a table of settings ({SETTING} = VALUE) of the recipe it extends; "
            "settings of its own steps stand in [[steps]]."
        )
    steps = raw.get("steps", [])
    if not isinstance(steps, list) or not all(isinstance(table, dict) for table in steps):
        raise UsageError(f"Recipe {name}: expected steps as [[steps]] tables, got {steps!r}.")
    for position, table in enumerate(steps):
        if not isinstance(table.get("step"), str):
            raise UsageError(f'Recipe {name}, step {position}: expected step = "NAME" in each [[steps]] table.')
    return raw


def _check_pins(raw: dict[str, Any], name: str) -> None:
    for key, example in (("extends", "quant8-advft"), ("model", "bench:conv8"), ("track", "digits-linf-v1")):
        if key in raw and (not isinstance(raw[key], str) or not raw[key]):
            raise UsageError(f'Recipe {name}: expected {key} = "NAME" ("{example}", say), got {raw[key]!r}.')
    if "model" in raw:
        try:
            ModelSpec.parse(raw["model"])
        except UsageError as error:
            raise UsageError(f"Recipe {name}, model: {error}") from error
    seeds = raw.get("seeds", [0])
    whole = isinstance(seeds, list) and all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"Recipe {name}: expected seeds = [0, 1, 2], different whole numbers from 0 on, got {seeds!r}."
        )


def assignments(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of a table of settings: `steps.0.weight_bits = 4`, with or without quotes around the path."""
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path.count(".") < SETTING.count("."):
            yield from assignments(value, f"{path}.")
        else:
            yield path, value


def assign(steps: list[dict[str, Any]], path: str, value: Any, whose: str, *, written: str = "") -> None:
    """Change one setting, in place.

    Args:
        steps: tables of steps.
        path: "steps.0.weight_bits".
        value: of the setting; checked when the step is built.
        whose: how a complaint that there is no such step begins.
        written: how the user wrote it on the command line; "" where it stands in a file.

    Raises:
        UsageError: not the path of a setting, or no such step.
    """
    how = f"--set {SETTING}=VALUE (steps.0.weight_bits=4), got '{written}'"
    match path.split("."):
        case ["steps", _, "step"] if written:
            raise UsageError(f"--set changes settings, not which step it is: got '{written}'; write a recipe.")
        case ["steps", index, key] if index.isdecimal() and key != "step":
            pass
        case _ if written:
            raise UsageError(f"Expected {how}.")
        case _:
            raise UsageError(f"{whose}: expected {SETTING} = VALUE (steps.0.weight_bits = 4), got '{path}'.")
    if int(index) >= len(steps):
        raise UsageError(f"{whose} has {len(steps)} steps, counted from 0.")
    steps[int(index)][key] = value


def toml_value(text: str) -> Any:
    """Read a bare TOML value; a bare word is taken as a string, so that shells need no nested quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
