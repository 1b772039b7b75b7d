"""Random numbers by counting, not by turn (SplitMix64: Steele, Lea, Flood, 2014).

Each image has a key of its own, made from the track's seed, the attack and the image's number; a draw is a hash of key
and counter. So what an image is attacked with depends neither on the batch it is in, nor on who else is still standing,
nor on what an interrupted run drew before.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(word: int) -> int:
    """Return the 64-bit word that torch, which has no unsigned ones to multiply, stores as a negative number."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def _shifted(words: Tensor, by: int) -> Tensor:
    """Shift to the right and fill with zeros, where torch fills with the sign."""
    return (words >> by) & ((1 << (64 - by)) - 1)


def mix(words: Tensor) -> Tensor:
    """Scramble 64-bit words, one to one; int64, any shape."""
    words = (words ^ _shifted(words, 30)) * _signed(_FIRST)
    words = (words ^ _shifted(words, 27)) * _signed(_SECOND)
    return words ^ _shifted(words, 31)


def keys(seed: int, attack: str, images: Tensor) -> Tensor:
    """Return a key for each image, (N,) int64.

    Args:
        seed: of the track.
        attack: "apgd-ce": attacks do not share their draws.
        images: (N,) int64, the images' numbers in the data set.
    """
    start = mix(torch.full_like(images, _signed(seed)) + _signed(_GAMMA))
    return mix(mix(start ^ zlib.crc32(attack.encode())) + images * _signed(_GAMMA))


def bits(key: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits for each pair of key and counter; shapes broadcast."""
    return mix(key + (counter + 1) * _signed(_GAMMA))


def below(bound: Tensor | int, words: Tensor, *, shift: int) -> Tensor:
    """Return whole numbers in 0 … bound − 1 (0 where bound is 0), from 24 of each word's bits, `shift` ≤ 40."""
    return (((words >> shift) & 0xFFFFFF) * bound) >> 24


def uniform(key: Tensor, counter: Tensor) -> Tensor:
    """Return float32 numbers in [0, 1), multiples of 2^-24."""
    return _shifted(bits(key, counter), 40).float() * 2.0**-24


def normal(key: Tensor, counter: Tensor) -> Tensor:
    """Return standard normal float32 numbers (Box & Muller, 1958)."""
    radius = (1.0 - uniform(key, 2 * counter)).log().mul(-2.0).sqrt()
    return radius * (2.0 * math.pi * uniform(key, 2 * counter + 1)).cos()
