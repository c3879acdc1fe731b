# SPDX-License-Identifier: Apache-2.0
"""What is expected of a point before anything is told: a little worse towards the borders.

A stationary process doubts most where nothing was told, and most of a box is far from everything:
its corners. Without a trend searches spend their points there, and a parameter once at its bound
stays there, since nothing tells that it could be better inside (Swersky, "Improving Bayesian
optimization for machine learning using expert priors", PhD thesis, Toronto 2017; Siivola et al.,
"Correcting boundary over-exploration deficiencies in Bayesian optimization with virtual derivative
sign observations", MLSP 2018). People put ranges around what they expect to be good, so a shallow
bowl with its lowest point in the middle is the fixed mean function. It is a seventh of the targets'
deviation for evenly spread points, so a few results that say otherwise outweigh it. Used by
`model` and `posterior`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_suggestion.coordinates import Flags
from tunesmith_suggestion.space import Floats

BEND: Final = 2.0
"""Steepness of the bowl of a single parameter, in the targets' deviations; of d parameters each
has it over the square root of d, so the bowl's part in the variance is the same."""
_MIDDLE: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """`steepness` times the squared distance from the middle, less `level`."""

    is_choice: Flags
    steepness: float
    level: float

    @classmethod
    def over(cls, rows: Floats, is_choice: Flags) -> Trend:
        """The bowl whose mean over these rows is 0, as is that of their targets. Categories have
        no middle and no part in it."""
        steepness = BEND / math.sqrt(max(int((~is_choice).sum()), 1))
        bowl = cls(is_choice, steepness, 0.0)
        return cls(is_choice, steepness, float(bowl.at(rows).mean()))

    def at(self, rows: Floats) -> Floats:
        off = rows[:, ~self.is_choice] - _MIDDLE
        found: Floats = self.steepness * (off * off).sum(axis=1) - self.level
        return found

    def slopes(self, rows: Floats) -> Floats:
        """Along every column, zero along choices."""
        return np.where(self.is_choice, 0.0, 2 * self.steepness * (rows - _MIDDLE))
