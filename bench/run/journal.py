"""What was judged so far, on disk: an interrupted evaluation loses at most one shard."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

from bench.files import write_text


class FileJournal:
    """Outcomes per attack and image in one JSON file, rewritten atomically after every shard.

    Args:
        path: the file; its name must identify everything that decides an outcome (model, track, engine).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._attacks: dict[str, dict[str, dict[str, int]]] = {}
        if path.is_file():
            # A damaged journal costs the work it held, nothing more.
            with suppress(ValueError):
                self._attacks = json.loads(path.read_text(encoding="utf-8"))

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
        write_text(self.path, json.dumps(self._attacks))

    def seen(self, attack: str) -> dict[str, int]:
        """Return the probe's counts, summed over all recorded shards of an attack."""
        return self._of(attack)["seen"]

    def forget(self) -> None:
        """Remove the file and the images: the evaluation is recorded elsewhere, or is to start afresh."""
        self._attacks = {}
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.images, ignore_errors=True)

    def _of(self, attack: str) -> dict[str, dict[str, int]]:
        return self._attacks.get(attack, {"outcomes": {}, "seen": {}})
