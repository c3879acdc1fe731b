# SPDX-License-Identifier: Apache-2.0
"""From losses to targets a stationary Gaussian process can learn: mean 0, variance 1, no outliers.

Used by `bayesian`.
"""

from __future__ import annotations

import numpy as np

from tunesmith_suggestion.space import Floats

_TINY = 1e-12


def targets(losses: Floats) -> Floats:
    """Warped and standardised losses; an infinite one (a failed trial) counts as the worst seen.

    Losses above the median are bent logarithmically: how bad a bad point is matters little, and
    one huge value would flatten the rest (compare the output warping of Song et al., "The Vizier
    Gaussian process bandit algorithm", 2024).
    """
    finite = np.isfinite(losses)
    if not finite.any():
        return np.zeros_like(losses)
    # Only differences matter, and those of the largest doubles would overflow.
    losses = losses / max(float(np.abs(losses[finite]).max()), 1.0)
    known = losses[finite]
    low, middle = float(known.min()), float(np.median(known))
    filled = np.where(finite, losses, known.max())
    unit = middle - low
    if unit > _TINY * max(abs(low), abs(middle), _TINY):
        above = np.maximum(filled - middle, 0) / unit
        filled = np.where(filled > middle, middle + unit * np.log1p(above), filled)
    return _standardised(filled)


def _standardised(values: Floats) -> Floats:
    centred: Floats = values - values.mean()
    spread = float(np.sqrt((centred * centred).mean()))
    return centred / spread if spread > _TINY else np.zeros_like(values)
