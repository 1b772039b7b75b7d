"""The file that a recipe's own steps come from, and what it held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """The file that a submission's own steps come from.

    Attributes:
        file: "submissions/mine/steps.py"; in an entry "mine/steps.py".
        sha256: of the file, as it was when the recipe was read; no other content is run in its name.
        isolated: of an entry: whether attack and measurement ran in a process that had never imported the file.
    """

    file: str
    sha256: str
    isolated: bool = False

    @classmethod
    def of(cls, file: Path) -> OwnCode:
        """Name a file and what it holds now."""
        return cls(file=file.as_posix(), sha256=hashlib.sha256(file.read_bytes()).hexdigest())
