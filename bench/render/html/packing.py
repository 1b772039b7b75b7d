"""Letters small enough that hundreds of entries fit on one page: the commoner a letter, the fewer its bits."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter

MOST, BUDGET = 4_000, 800_000
"""Letters of one entry, and of all entries of a page together: some 250 kB. A longer board shows fewer of each."""
FEWEST = 100
"""Fewer than this tell nothing, so a board that has no room for them shows none."""


def shown_of_each(n_entries: int) -> int:
    """Return how many of each entry's letters, from the first on, a page of so many entries shows."""
    each = min(MOST, BUDGET // max(n_entries, 1))
    return each if each >= FEWEST else 0


def pack(letters: str) -> tuple[str, int, str]:
    """Return (the letters that occur, the commonest first; how many letters; their bits in base 64).

    Letter i of the first text is i ones and a zero: close to the entropy of letters most of which are alike, and a
    dozen lines to read again.
    """
    order = sorted(Counter(letters).items(), key=lambda item: (-item[1], item[0]))
    codes = str.maketrans({letter: "1" * i + "0" for i, (letter, _) in enumerate(order)})
    bits = letters.translate(codes)
    n_bytes = -(-len(bits) // 8)
    packed = int(bits.ljust(8 * n_bytes, "0"), 2).to_bytes(n_bytes, "big")
    return "".join(letter for letter, _ in order), len(letters), b64encode(packed).decode()
