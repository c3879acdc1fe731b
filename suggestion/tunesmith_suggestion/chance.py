# SPDX-License-Identifier: Apache-2.0
"""Randomness keyed by what it is for: the only source of chance of our algorithms.

The stream of an ordinal depends on (algorithm, version, seed, ordinal) and on nothing else, so a
point is the same whatever batches were asked, in whatever process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

_BLOCK = 64
"""Draws of an ordering that are made at once."""


def generator(algorithm: str, version: str, seed: int, ordinal: int) -> np.random.Generator:
    """An independent stream for one ordinal.

    Philox is a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3", SC 2011): streams of different keys are independent by construction.
    """
    return np.random.Generator(_philox(f"{algorithm}/{version}/{seed}/{ordinal}"))


def _philox(name: str) -> np.random.Philox:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "big"))


def raw_bits(algorithm: str, version: str, seed: int) -> np.random.Philox:
    """The stream of a whole search; its `random_raw` is the same in every release of NumPy."""
    return _philox(f"{algorithm}/{version}/{seed}/search")


def ordering(algorithm: str, version: str, seed: int, count: int) -> Iterator[int]:
    """The numbers 0 ... count - 1 in a random order, lazily: n of them cost time and memory of
    order n, however large `count` is.

    The Fisher-Yates shuffle (Durstenfeld, Algorithm 235, CACM 1964) on a sparse array: only moved
    numbers are stored. A draw takes 64 bits more than `count` has, so no order is favoured by more
    than one part in 2**64.
    """
    bits = raw_bits(algorithm, version, seed)
    words = -(-count.bit_length() // 64) + 1
    moved: dict[int, int] = {}
    raw = b""
    for i in range(count):
        if not raw:
            raw = bits.random_raw(words * _BLOCK).astype("<u8").tobytes()
        draw, raw = raw[: 8 * words], raw[8 * words :]
        j = i + ((count - i) * int.from_bytes(draw, "little") >> (64 * words))
        here = moved.pop(i, i)
        if j == i:
            yield here
        else:
            yield moved.get(j, j)
            moved[j] = here
