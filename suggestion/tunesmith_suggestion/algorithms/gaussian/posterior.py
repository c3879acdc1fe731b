# SPDX-License-Identifier: Apache-2.0
"""What the model believes: mean and deviation of a point's target, given what was told.

Rasmussen and Williams (2006), algorithm 2.1. Points without a result (running trials, earlier ones
of a batch) are believed to turn out somewhat worse than the mean says: between the "kriging
believer" and the pessimistic "constant liar" of Ginsbourger, Le Riche and Carraro (2010). The
believer alone puts a batch into one basin; in benchmarks/algorithms batches of 8 came closer to
single points with the lie. Used by `bayesian`, its promises by `search`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tunesmith_suggestion.algorithms.gaussian.acquisition import Acquisition
from tunesmith_suggestion.algorithms.gaussian.factor import Factor
from tunesmith_suggestion.algorithms.gaussian.trend import Trend
from tunesmith_suggestion.coordinates import Flags
from tunesmith_suggestion.space import Floats

PESSIMISM: Final = 1.0
"""Deviations by which a point without a result is believed to be worse than the mean."""
_LEAST_DEVIATION: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """`weights` times covariances, plus the trend, are means. `best` is the lowest mean of a point
    told, or the lowest that one is believed to have."""

    factor: Factor
    trend: Trend
    weights: Floats
    best: float

    @classmethod
    def of(cls, factor: Factor, trend: Trend, rows: Floats, targets: Floats) -> Posterior:
        """Pre: the factor is that of the rows, in this order."""
        surprises = targets - trend.at(rows)
        weights = factor.solved_back(factor.solved(surprises[:, None]))[:, 0]
        # K weights = surprises, and the noise is on the diagonal of K.
        means = targets - factor.kernel.noise * weights
        return cls(factor, trend, weights, float(means.min()))

    def believing(self, row: Floats) -> Posterior:
        """With one more point, expected to turn out a little worse than the mean says."""
        kernel = self.factor.kernel
        covariances = kernel.covariances(self.factor.rows, kernel.scaled(row[None]))
        mean = float((self.weights @ covariances + self.trend.at(row[None]))[0])
        lie = PESSIMISM * float(self._deviations(self.factor.solved(covariances))[0])
        grown = self.factor.grown(row)
        surprise = np.zeros((len(self.weights) + 1, 1))
        surprise[-1] = lie
        weights = np.append(self.weights, 0.0) + grown.solved_back(grown.solved(surprise))[:, 0]
        return replace(self, factor=grown, weights=weights, best=min(self.best, mean + lie))

    def means(self, rows: Floats) -> Floats:
        kernel = self.factor.kernel
        covariances = kernel.covariances(self.factor.rows, kernel.scaled(rows))
        found: Floats = self.weights @ covariances + self.trend.at(rows)
        return found

    def promises(self, rows: Floats, acquisition: Acquisition) -> Floats:
        """The acquisition at snapped rows."""
        kernel = self.factor.kernel
        covariances = kernel.covariances(self.factor.rows, kernel.scaled(rows))
        means = self.weights @ covariances + self.trend.at(rows)
        return acquisition(means, self._deviations(self.factor.solved(covariances)), self.best)[0]

    def promises_with_slopes(
        self, rows: Floats, acquisition: Acquisition, is_choice: Flags
    ) -> tuple[Floats, Floats]:
        """The acquisition, and its slopes along the number columns (zero along choices)."""
        kernel = self.factor.kernel
        scaled = kernel.scaled(rows)
        covariances, steep = kernel.with_slopes(self.factor.rows, scaled)
        solved = self.factor.solved(covariances)
        deviations = self._deviations(solved)
        means = self.weights @ covariances + self.trend.at(rows)
        values, by_mean, by_deviation = acquisition(means, deviations, self.best)
        # d mean = sum of weights * d cov; d deviation = -sum of (K^-1 cov) * d cov / deviation
        back = self.factor.solved_back(solved)
        pull = by_mean * self.weights[:, None] - (by_deviation / deviations) * back
        pull *= steep
        slopes = by_mean[:, None] * self.trend.slopes(rows)
        along = pull.T @ self.factor.rows.numbers - pull.sum(axis=0)[:, None] * scaled.numbers
        slopes[:, ~is_choice] += along * kernel.inverse
        return values, slopes

    def _deviations(self, solved: Floats) -> Floats:
        variances = self.factor.kernel.signal - np.einsum("ij,ij->j", solved, solved)
        found: Floats = np.sqrt(np.maximum(variances, _LEAST_DEVIATION**2))
        return found
