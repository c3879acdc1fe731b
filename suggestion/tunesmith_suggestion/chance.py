# SPDX-License-Identifier: Apache-2.0
"""Randomness keyed by what it is for: the only source of chance of our algorithms.

The stream of an ordinal depends on (algorithm, version, seed, ordinal) and on nothing else, so a
point is the same whatever batches were asked, in whatever process.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(algorithm: str, version: str, seed: int, ordinal: int) -> np.random.Generator:
    """An independent stream for one ordinal.

    Philox is a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3", SC 2011): streams of different keys are independent by construction.
    """
    name = f"{algorithm}/{version}/{seed}/{ordinal}".encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "big")
    return np.random.Generator(np.random.Philox(key=key))
