"""What is wrong with somebody's TOML, in one sentence: pydantic says it in many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from bench.registry import did_you_mean


def is_line(text: str) -> bool:
    """Say whether a text is one line, of characters that a terminal only shows."""
    return not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)


def _line(text: str) -> str:
    if not is_line(text):
        raise ValueError(f"expected one line without control characters, got {text!r}")
    return text


Line = Annotated[str, AfterValidator(_line)]
"""What people read on a terminal, from files that anybody may have written."""


def first_fault(
    error: ValidationError, form: type[BaseModel], inside: Mapping[str, type[BaseModel]] | None = None
) -> str:
    """Return the first fault, with the key's name and the way out. A misspelt key is missing, too: its spelling is it.

    Args:
        error: of validating the form.
        form: whose keys there are.
        inside: the forms of its tables, by their keys.
    """
    first: Any = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    *above, key = first["loc"] or ("",)
    where = f" in {'.'.join(map(str, above))}" if above else ""
    if first["type"] == "extra_forbidden":
        table = (inside or {}).get(str(above[0]), form) if above else form
        return f"unknown key '{key}'{where}.{did_you_mean(str(key), table.model_fields)}"
    if first["type"] == "missing":
        return f"the key '{key}' is missing{where}."
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected").rstrip(".")
    named = (
        f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
    )  # a complaint about several keys names them itself
    return f"{named}{message}." if "got" in message else f"{named}{message}, got {first['input']!r}."
