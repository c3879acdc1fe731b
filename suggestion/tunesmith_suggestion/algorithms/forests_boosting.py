# SPDX-License-Identifier: Apache-2.0
"""Boosted trees that tell a median and a spread: the model GBRT of `forests`.

It is scikit-optimize's, repaired where newer packages broke it: scikit-learn from 1.7 on does not
see that it is a regressor, and NumPy from 2.4 on lacks a function that it calls. Imported when a
search asks for it: it loads scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from tunesmith_suggestion.space import Floats

_TREES: Final = 30
_Quantiles: Any = import_module("skopt.learning").GradientBoostingQuantileRegressor


class BoostedQuantiles(_Quantiles):  # type: ignore[misc]
    """Keeps the constructor of its base, because scikit-learn clones models by it."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor"
        return tags

    def predict(self, X: Floats, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """The median, and with `return_std` half the distance of the outer quantiles."""
        low, middle, high = (model.predict(X) for model in self.regressors_)
        return (middle, np.abs(high - low) / 2) if return_std else middle


def boosted_quantiles(seed: int) -> BoostedQuantiles:
    """As scikit-optimize makes it, 30 trees a quantile; the quantiles are its 0.16, 0.5, 0.84."""
    trees = GradientBoostingRegressor(n_estimators=_TREES, loss="quantile")
    return BoostedQuantiles(base_estimator=trees, random_state=seed)
