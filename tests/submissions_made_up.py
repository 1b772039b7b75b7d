"""Submissions that a test writes into a folder of its own."""

from pathlib import Path

CARD = 'title = "T"\nauthors = ["A"]\nlicence = "MIT"\ntracks = ["digits-linf-v1"]\n'
HEAD = """
import copy, dataclasses, os
import torch
from dataclasses import dataclass
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Mine:
    size: int = 1

    def __call__(self, subject, ingredients):
        twin = copy.deepcopy(subject.twin)
{body}
        return dataclasses.replace(subject, twin=twin, deployed=twin)


STEPS = {{"mine": Mine}}
"""


def write_submission(submissions: Path, body: str = "pass", *, name: str = "ours", code: str | None = None) -> Path:
    """Write a submission with one own step; `body` is what it does to a copy of the twin."""
    folder = submissions / name
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(CARD)
    (folder / "recipe.toml").write_text(f'summary = "Ours"\n[[steps]]\nstep = "{name}/mine"\n')
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    (folder / "steps.py").write_text(HEAD.format(body=lines) if code is None else code)
    return folder
