"""Where the bench keeps things, and how it writes them so that a crash never leaves half a file."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import MissingError, UsageError

Skip = Callable[[str], None]
"""Takes the sentence that says why a file, or a line of one, is left out."""

DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
PATIENCE_S = 60.0


def cache_dir() -> Path:
    """`BENCH_CACHE_DIR`, else `bench` in the user's cache folder: trained models, downloads, unfinished runs."""
    if chosen := os.environ.get("BENCH_CACHE_DIR"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bench"


def data_dir() -> Path | None:
    """`BENCH_DATA_DIR`, the folder of data sets the user brings; None when unset."""
    chosen = os.environ.get("BENCH_DATA_DIR")
    return Path(chosen).expanduser() if chosen else None


def weights_file(path: Path) -> Path:
    """Return the path itself, or the file of that name in `BENCH_WEIGHTS_DIR` where there is none here.

    So a model can be named by the file alone, which is the same on every machine.

    Raises:
        MissingError: there is none in either place.
    """
    folder = os.environ.get("BENCH_WEIGHTS_DIR")
    for place in [path, *([Path(folder).expanduser() / path] if folder else [])]:
        if place.is_file():
            return place
    if path.is_absolute():
        raise MissingError(f"There is no checkpoint file {path}; check the path.")
    elsewhere = f"in BENCH_WEIGHTS_DIR ({folder})" if folder else "BENCH_WEIGHTS_DIR is unset"
    raise MissingError(
        f"There is no checkpoint file {path}: looked in {Path.cwd()}, and {elsewhere}; check the path, or set "
        "BENCH_WEIGHTS_DIR to the folder that holds it."
    )


def offline() -> bool:
    """Whether `BENCH_OFFLINE` forbids downloads."""
    return os.environ.get("BENCH_OFFLINE", "") not in ("", "0")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends without an error.

    Guarantees:
        `path` holds its old content or the whole new one, never a part of it.

    Raises:
        MissingError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise MissingError(
            f"Cannot write in {path.parent}: {error.strerror}. Free space or choose another folder."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as file:  # on the disk before it takes the old one's place
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:  # what the block itself ran into, a download say, is its own to explain
            raise
        raise MissingError(
            f"Cannot write {path}: {error.strerror or error}. Free space or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write in `folder`; the others wait. Who has it may ask for it again.

    Raises:
        MissingError: another process held the folder for a minute.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.resolve() / ".lock", timeout=PATIENCE_S, is_singleton=True):
            yield
    except Timeout as error:
        raise MissingError(f"Another process keeps writing in {folder}; try again when it is done.") from error


def read_toml(path: Path) -> str:
    """Return the text of a TOML file.

    Raises:
        UsageError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path} as text in UTF-8: {error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(folder: Path) -> None:
    """Make sure that results can be written to `folder`, before hours of work rather than after.

    Raises:
        MissingError: they cannot.
    """
    with atomic(folder / ".writable") as temporary:
        temporary.write_text("yes")
    (folder / ".writable").unlink(missing_ok=True)
