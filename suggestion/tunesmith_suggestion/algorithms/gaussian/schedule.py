# SPDX-License-Identifier: Apache-2.0
"""When hyper-parameters are fitted anew, and on which trials: what bounds the cost.

Used by `bayesian`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tunesmith_suggestion.coordinates import Integers
from tunesmith_suggestion.space import Floats

MOST_ROWS: Final = 1000
"""Trials in the model at a fit; those told since then come on top."""
MOST_FITTED: Final = 300
"""Trials whose likelihood is maximised."""
_MOST_BETWEEN: Final = 64


def fit_point(told: int) -> int:
    """How many trials the last fit saw: every one up to 32, then every second, fourth, ... 64th.

    A fit costs n**3, so its gaps grow with n; they are a 16th to a 32nd of it.
    """
    gap = min(1 << max(told.bit_length() - 5, 0), _MOST_BETWEEN)
    return told // gap * gap


def thinned(targets: Floats, most: int) -> Integers:
    """At most so many indices, ascending: the better half of them the best, the others spread
    evenly over the rest, so that the model knows where nothing is to be found, too."""
    count = len(targets)
    if count <= most:
        return np.arange(count)
    order = np.argsort(targets, kind="stable")
    best, rest = order[: most // 2], np.sort(order[most // 2 :])
    spread = np.linspace(0, len(rest) - 1, most - len(best)).round().astype(np.int64)
    return np.sort(np.concatenate([best, rest[spread]]))
