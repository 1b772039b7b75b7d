"""What was judged so far, on disk: an interrupted evaluation loses at most one shard."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import MissingError
from bench.files import write_text


class FileJournal:
    """Outcomes per attack and image in one JSON file, rewritten atomically after every shard.

    Args:
        path: the file; its name must identify everything that decides an outcome (model, track, engine).

    Attributes:
        spent: seconds that earlier processes spent on what is recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spent = 0.0
        self._attacks: dict[str, dict[str, dict[str, int]]] = {}
        self._began = time.monotonic()
        self._lock: FileLock | None = None
        if path.is_file():
            # A damaged journal costs the work it held, nothing more.
            with suppress(ValueError, KeyError, TypeError):
                stored = json.loads(path.read_text(encoding="utf-8"))
                self.spent, self._attacks = float(stored["seconds"]), stored["attacks"]

    def hold(self) -> None:
        """Keep other processes away until the work is forgotten, or this process ends.

        Raises:
            MissingError: another process is at the same work.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_suffix(".lock"), timeout=0, is_singleton=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise MissingError(
                "Another process is attacking this very model under the same protocol; let it finish, or stop it first."
            ) from error

    @property
    def images(self) -> Path:
        """The folder for the adversarial images that are kept meanwhile."""
        return self.path.with_suffix(".images")

    def recall(self, attack: str) -> dict[int, bool]:
        """Return image → survived for every image this attack has been judged on."""
        return {int(image): bool(survived) for image, survived in self._of(attack)["outcomes"].items()}

    def record(self, attack: str, outcomes: dict[int, bool], seen: dict[str, int]) -> None:
        """Add a finished shard and save; an image that fell once stays down, whatever is found of it later."""
        old = self._of(attack)
        later = {str(image): int(survived) for image, survived in outcomes.items()}
        final = {image: min(survived, old["outcomes"].get(image, 1)) for image, survived in later.items()}
        self._attacks[attack] = {
            "outcomes": old["outcomes"] | final,
            "seen": dict(Counter(old["seen"]) + Counter(seen)),
        }
        seconds = self.spent + time.monotonic() - self._began
        write_text(self.path, json.dumps({"seconds": round(seconds, 2), "attacks": self._attacks}))

    def seen(self, attack: str) -> dict[str, int]:
        """Return the probe's counts, summed over all recorded shards of an attack."""
        return self._of(attack)["seen"]

    def forget(self) -> None:
        """Remove the file and the images: the evaluation is recorded elsewhere, or is to start afresh."""
        self._attacks, self.spent = {}, 0.0
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.images, ignore_errors=True)
        if self._lock is not None:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release(force=True)
            self._lock = None

    def _of(self, attack: str) -> dict[str, dict[str, int]]:
        return self._attacks.get(attack, {"outcomes": {}, "seen": {}})
