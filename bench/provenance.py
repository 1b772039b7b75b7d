"""Where a measurement comes from: code, machine, packages, time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PACKAGES = ("torch", "torchvision", "pyautoattack", "robustbench", "timm", "onnxruntime", "torch-pruning", "numpy")


class Provenance(BaseModel):
    """Enough to repeat a measurement, and to know when two are comparable.

    Attributes:
        bench: version of this package.
        commit: the commit of the code that ran; None when it ran outside a git checkout.
        dirty: whether that code had uncommitted changes.
        python: interpreter version.
        packages: versions of the packages that decide results.
        device: "cpu" or the accelerator's name.
        machine: the processor, its vector units that matter to int8, and the number of cores.
        when: UTC, ISO 8601, to the second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bench: str
    commit: str | None
    dirty: bool
    python: str
    packages: dict[str, str]
    device: str
    machine: str
    when: str


def here(device: str, plugins: Mapping[str, str] | None = None) -> Provenance:
    """Describe this process on `device`, and the versions of the plugins that took part."""
    commit, dirty = _commit()
    return Provenance(
        bench=metadata.version("bench"),
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        packages={**installed(), **(plugins or {})},
        device=device,
        machine=machine(),
        when=datetime.now(UTC).replace(microsecond=0).isoformat(),
    )


def installed() -> dict[str, str]:
    """Return the versions of the packages that decide results; those not installed are left out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def machine() -> str:
    """Return the processor in one line: "AMD EPYC, 2 cores, avx512_vnni"."""
    model, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        facts = {key.strip(): value.strip() for key, _, value in lines}
        model, flags = facts.get("model name", model), facts.get("flags", "")
    # int8 kernels are several times faster with these instructions: a latency without them named means little.
    vector = [flag for flag in ("avx512_vnni", "avx_vnni", "avx2") if flag in flags.split()]
    return ", ".join([model, f"{os.cpu_count()} cores", *vector[:1]])


def has_vnni() -> bool:
    """Whether the processor adds four products of 8 bits in one instruction, exactly; without, they may overflow 16."""
    return "vnni" in machine()


def _commit() -> tuple[str | None, bool]:
    """Ask git about the checkout whose `bench` package is running, wherever it was installed from.

    A regular install leaves no checkout beside the code, so the current folder answers when it holds the same sources.
    """
    package = Path(__file__).parent
    for folder in (package.parent, Path.cwd()):
        if not (folder / ".git").exists() or not _same_sources(folder / "bench", package):
            continue
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = _git(folder, "status", "--porcelain", "--", "bench", "submissions")
        if commit:
            return commit, bool(dirty)
    return None, False


def _same_sources(theirs: Path, ours: Path) -> bool:
    files = sorted(file.relative_to(ours) for pattern in ("*.py", "*.toml") for file in ours.rglob(pattern))
    return all(
        (theirs / file).is_file() and (theirs / file).read_bytes() == (ours / file).read_bytes() for file in files
    )


def _git(folder: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


@cache
def code_digest(*parts: str) -> str:
    """Return a sha256 over the source of some of the bench's packages and files: what other code made is not found."""
    digest = hashlib.sha256(metadata.version("bench").encode())
    for part in parts:
        place = resources.files("bench") / part
        for file in sorted(place.iterdir(), key=lambda file: file.name) if place.is_dir() else [place]:
            if file.name.endswith(".py"):
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
