"""Weights from the web, kept in the cache; without a network, one sentence that says where to put the file by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

from bench.errors import MissingError
from bench.files import atomic, cache_dir, offline
from bench.load.checkpoints import DamagedError, read_content


def fetch(path: Path, download: Callable[[Path], None], *, what: str, address: str) -> Path:
    """Return `path`, downloaded by `download(temporary_path)` unless it is there already.

    `what` and `address` are for messages.

    Guarantees:
        A download that fails leaves nothing at `path`.

    Raises:
        MissingError: BENCH_OFFLINE is set, or the download failed.
    """
    if path.is_file():
        return path
    by_hand = f"looked for {path}; download {address} by hand and save it there"
    if offline():
        raise MissingError(f"The weights of {what} are not here and BENCH_OFFLINE forbids downloads: {by_hand}.")
    try:
        with atomic(path) as temporary:
            download(temporary)
    except MissingError:
        raise
    except Exception as error:  # each client has its own errors, and all of them mean the same here
        reason = f"{type(error).__name__}: {_first_line(error)}"
        if isinstance(error, DamagedError):
            reason = "what came is a web page or a broken file"
        raise MissingError(f"The weights of {what} could not be downloaded ({reason}): {by_hand}.") from error
    return path


def fetch_url(url: str, *, what: str) -> Path:
    """Return the checkpoint behind `url`, from torch's own cache if it is there.

    Raises:
        MissingError: it is in neither cache and cannot be downloaded.
    """
    name = url.rpartition("/")[2]
    shared = Path(torch.hub.get_dir()) / "checkpoints" / name
    return shared if shared.is_file() else _fetch_plain(url, cache_dir() / "downloads" / "checkpoints" / name, what)


def fetch_hub(repository: str, name: str, *, what: str) -> Path:
    """Return the checkpoint `name` of a Hugging Face repository, from Hugging Face's cache if it is there.

    Raises:
        MissingError: it is in neither cache and cannot be downloaded.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    # Not through the hub's client: without a network it retries for 20 s and says so on the terminal.
    address = f"https://huggingface.co/{repository}/resolve/main/{name}"
    return _fetch_plain(address, cache_dir() / "downloads" / repository / name, what)


def _fetch_plain(url: str, path: Path, what: str) -> Path:
    # PyTorch's addresses carry the start of the file's SHA-256, as in resnet18-f37072fd.pth.
    digest = re.search(r"-([a-f0-9]{8,})\.", path.name)

    def download(temporary: Path) -> None:
        torch.hub.download_url_to_file(url, str(temporary), hash_prefix=digest and digest[1], progress=False)
        read_content(temporary)

    return fetch(path, download, what=what, address=url)


def _first_line(error: Exception) -> str:
    """Return the start of a message, short enough for a sentence."""
    line = str(error).strip().partition("\n")[0].rstrip(".")
    return line if len(line) <= 80 else f"{line[:80]}…"
