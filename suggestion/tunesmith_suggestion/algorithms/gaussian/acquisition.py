# SPDX-License-Identifier: Apache-2.0
"""What a point promises, from the mean and deviation of its target there.

Each function maps (means, deviations, best) to values that are larger where a point promises more,
with their slopes along the mean and along the deviation. Used by `posterior` through `search`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.special import erfcx, log_ndtr

from tunesmith_suggestion.space import Floats

Promise = tuple[Floats, Floats, Floats]
Acquisition = Callable[[Floats, Floats, float], Promise]

KAPPA: Final = 1.96
"""Deviations below the mean that LCB looks at; Katib's service (scikit-optimize) has this one."""
_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2
_FAR = -1e4
"""Below this the tail's asymptotic series is exact and the closed form cancels."""
_LARGE = 25.0
"""Above this nothing is left to chance in a double."""


def log_expected_improvement(means: Floats, deviations: Floats, best: float) -> Promise:
    """log E max(best - target, 0), exact also where the improvement underflows.

    Ament et al., "Unexpected improvements to expected improvement", NeurIPS 2023, equation 9: with
    z = (best - mean) / deviation it is log(phi(z) + z Phi(z)) + log deviation.
    """
    z = (best - means) / deviations
    mills = _mills(z)
    near = 1 + np.maximum(z, _FAR) * mills
    far = np.minimum(z, _FAR)
    ratio = np.where(z > _FAR, near, 1 / (far * far))  # improvement over phi
    certain = np.maximum(z, 1.0)  # where z is large, the improvement is z itself
    value = np.where(z > _LARGE, np.log(certain), -z * z / 2 - _HALF_LOG_TWO_PI + np.log(ratio))
    slope = np.where(z > _LARGE, 1 / certain, mills / ratio)
    return value + np.log(deviations), -slope / deviations, (1 - slope * z) / deviations


def log_probability_of_improvement(means: Floats, deviations: Floats, best: float) -> Promise:
    """log P(target < best)."""
    z = (best - means) / deviations
    slope = np.where(z > _LARGE, 0.0, 1 / _mills(z))
    return log_ndtr(z), -slope / deviations, -slope * z / deviations


def lower_confidence_bound(means: Floats, deviations: Floats, best: float) -> Promise:
    """How low the target may be, turned so that more is better; `best` plays no part."""
    del best
    ones = np.ones_like(means)
    return KAPPA * deviations - means, -ones, KAPPA * ones


def _mills(z: Floats) -> Floats:
    """Phi / phi, for z up to `_LARGE`."""
    found: Floats = math.sqrt(math.pi / 2) * erfcx(-np.minimum(z, _LARGE) / math.sqrt(2))
    return found
