# SPDX-License-Identifier: Apache-2.0
"""Two real trainings of 10 to 100 ms on data that comes with scikit-learn. Used by `problems`.

Both give the log loss on the half of the rows that was not trained on, as a deterministic function
of (values, split): the split of the rows and the chance of the training are keyed by its number.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
    Value,
)

SPLITS: Final = 5
_WORST: Final = 5.0
"""A training that diverges loses this much, about a confident wrong answer for every row."""
_LOG: Final = Distribution.LOG_UNIFORM

BOOSTING_SPACE: Final = SearchSpace(
    (
        DoubleParameter("learning_rate", 0.005, 1.0, distribution=_LOG),
        IntParameter("n_estimators", 4, 64, distribution=_LOG),
        IntParameter("max_depth", 1, 8),
        DoubleParameter("subsample", 0.2, 1.0),
        DoubleParameter("max_features", 0.05, 1.0, distribution=_LOG),
        IntParameter("min_samples_leaf", 1, 64, distribution=_LOG),
    )
)
MLP_SPACE: Final = SearchSpace(
    (
        DoubleParameter("learning_rate_init", 1e-4, 1e-1, distribution=_LOG),
        DoubleParameter("alpha", 1e-6, 10.0, distribution=_LOG),
        IntParameter("width", 2, 64, distribution=_LOG),
        IntParameter("layers", 1, 3),
        IntParameter("batch_size", 8, 64, distribution=_LOG),
        ListParameter("activation", ("identity", "logistic", "tanh", "relu")),
        ListParameter("solver", ("sgd", "adam")),
    )
)


def boosting_loss(values: Mapping[str, Value], split: int) -> float:
    """Gradient boosting on scikit-learn's breast cancer data (569 rows, 30 columns)."""
    from sklearn.ensemble import GradientBoostingClassifier  # noqa: PLC0415

    return _held_out(GradientBoostingClassifier(**values, random_state=split), "cancer", split)


def mlp_loss(values: Mapping[str, Value], split: int) -> float:
    """12 epochs of a perceptron on scikit-learn's wine data (178 rows, 13 columns)."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    given = dict(values)
    layers = (int(given.pop("width")),) * int(given.pop("layers"))
    model = MLPClassifier(
        **given, hidden_layer_sizes=layers, max_iter=12, n_iter_no_change=12, random_state=split
    )
    return _held_out(model, "wine", split)


def _held_out(model: Any, data: str, split: int) -> float:
    from sklearn.metrics import log_loss  # noqa: PLC0415

    train, test, train_labels, test_labels = _rows(data, split)
    with warnings.catch_warnings():  # few epochs never converge, and some settings overflow
        warnings.simplefilter("ignore")
        try:
            model.fit(train, train_labels)
            return min(float(log_loss(test_labels, model.predict_proba(test))), _WORST)
        except ValueError:  # scikit-learn's word for weights that are no longer finite
            return _WORST


@cache
def _rows(data: str, split: int) -> Any:
    """Standardised by the training half."""
    from sklearn.datasets import load_breast_cancer, load_wine  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    load = {"cancer": load_breast_cancer, "wine": load_wine}[data]
    rows, labels = load(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        rows, labels, test_size=0.5, random_state=split, stratify=labels
    )
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test), train_labels, test_labels
