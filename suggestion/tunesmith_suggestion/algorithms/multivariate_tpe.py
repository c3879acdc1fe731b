# SPDX-License-Identifier: Apache-2.0
"""`multivariate-tpe`: one joint Parzen estimator over all parameters.

A component of the density is one observation with all its parameters (Falkner, Klein, Hutter,
"BOHB", ICML 2018; Optuna's `multivariate`), so combinations that did well are kept together and
parameters that depend on each other are found.

Our `tpe` draws jointly too, where Katib's hyperopt takes one parameter at a time: that found worse
points. So this is the same estimator under Katib's other name: for experiments that say
`multivariate-tpe`, with the settings of Katib's optuna service. It has a version and streams of
chance of its own, so `tpe` may change one day and this stays joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from tunesmith_suggestion.algorithms.tpe import (
    BACKEND,
    CANDIDATES,
    GAMMA,
    PRIOR_WEIGHT,
    STARTUP,
    Tpe,
)
from tunesmith_suggestion.settings import DEDUPE, RANDOM_STATE, Setting


class MultivariateTpe(Tpe):
    """Katib's `multivariate-tpe`. Beyond its settings it takes those of `tpe`."""

    name = "multivariate-tpe"
    version = "2"
    settings: Sequence[Setting] = (
        STARTUP,
        replace(CANDIDATES, name="n_ei_candidates", aliases=("n_EI_candidates",)),
        RANDOM_STATE,
        GAMMA,
        PRIOR_WEIGHT,
        DEDUPE,
        BACKEND,
    )
    optuna_is_joint: ClassVar[bool] = True
