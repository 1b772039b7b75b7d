"""A journal that forgets when the process ends."""

from collections import Counter


class MemoryJournal:
    def __init__(self) -> None:
        self.outcomes: dict[str, dict[int, bool]] = {}
        self.counts: dict[str, Counter] = {}

    def recall(self, attack: str) -> dict[int, bool]:
        return self.outcomes.get(attack, {})

    def record(self, attack: str, outcomes: dict[int, bool], seen: dict[str, int]) -> None:
        self.outcomes.setdefault(attack, {}).update(outcomes)
        self.counts.setdefault(attack, Counter()).update(seen)

    def seen(self, attack: str) -> dict[str, int]:
        return dict(self.counts.get(attack, {}))
