"""Letters packed for the page come back as they were."""

import random
from base64 import b64decode

import pytest

from bench.render.html.packing import pack, shown_of_each


def unpack(order, n, packed):
    bits = "".join(f"{byte:08b}" for byte in b64decode(packed))
    letters = [order[len(ones)] for ones in bits.split("0")[:n]]
    return "".join(letters)


@pytest.mark.parametrize("letters", [".", "x", "....", "..a.x", "abcdefgh.x" * 7])
def test_packed_letters_come_back(letters):
    assert unpack(*pack(letters)) == letters


def test_usual_letters_take_about_two_bits():
    dice = random.Random(0)
    letters = "".join(dice.choices(".axb", (0.5, 0.3, 0.15, 0.05), k=1000))
    order, n, packed = pack(letters)
    assert unpack(order, n, packed) == letters
    assert len(packed) < 320


def test_the_more_entries_the_fewer_letters_of_each_and_none_at_last():
    assert shown_of_each(0) == shown_of_each(10) == 4_000
    assert shown_of_each(500) >= 1_000
    assert shown_of_each(8_000) == 100
    assert shown_of_each(10_000) == 0
