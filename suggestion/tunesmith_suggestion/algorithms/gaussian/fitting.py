# SPDX-License-Identifier: Apache-2.0
"""Hyper-parameters: the maximum of the posterior, by L-BFGS-B on analytic gradients.

The marginal likelihood and its gradient are Rasmussen and Williams, "Gaussian Processes for Machine
Learning" (2006), equations 5.8 and 5.9. The priors are log-normal; the length scales expected grow
with the square root of the number of parameters, which keeps the model as complex as before
(Hvarfner, Hellsten, Nardi, "Vanilla Bayesian optimization performs great in high dimensions",
ICML 2024). Targets are expected with mean 0 and variance 1. Used by `bayesian`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from tunesmith_suggestion.algorithms.gaussian.kernel import Hyper
from tunesmith_suggestion.coordinates import Flags
from tunesmith_suggestion.space import Floats

SCALE_AT_ONE: Final = 0.5
"""The length scale expected of a single parameter, in widths of its range."""
SCALE_SPREAD: Final = 1.0
SIGNAL_SPREAD: Final = 1.0
NOISE_MODE: Final = -6.0
NOISE_SPREAD: Final = 2.0
_SCALE_BOUNDS: Final = (-4.0, 4.0)
_SIGNAL_BOUNDS: Final = (-4.0, 4.0)
NOISE_BOUNDS: Final = (-12.0, 1.0)
MOST_STEPS: Final = 50
_NO_FACTOR: Final = 1e25


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Independent normal distributions of the logarithms."""

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, columns: int) -> Prior:
        scale = math.log(SCALE_AT_ONE) + math.log(max(columns, 1)) / 2
        centre = np.append(np.full(columns, scale), [0.0, NOISE_MODE])
        spread = np.append(np.full(columns, SCALE_SPREAD), [SIGNAL_SPREAD, NOISE_SPREAD])
        return cls(centre, spread)


def expected(columns: int) -> Hyper:
    """The most probable hyper-parameters before any data."""
    return Hyper.of(Prior.of(columns).centre)


def fitted(rows: Floats, targets: Floats, is_choice: Flags, starts: Sequence[Hyper]) -> Hyper:
    """The best optimum reached from the most probable of the starts. Pre: rows are snapped."""
    objective = Objective(rows, targets, is_choice)
    vectors = [start.vector() for start in starts]
    first = min(vectors, key=lambda vector: objective(vector)[0])
    columns = rows.shape[1]
    bounds = [_SCALE_BOUNDS] * columns + [_SIGNAL_BOUNDS, NOISE_BOUNDS]
    found = minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": MOST_STEPS, "ftol": 1e-5, "gtol": 1e-3},
    )
    return Hyper.of(np.asarray(found.x, dtype=np.float64))


class Objective:
    """The negative log posterior density and its gradient, as L-BFGS-B wants them."""

    def __init__(self, rows: Floats, targets: Floats, is_choice: Flags) -> None:
        self._targets = targets
        self._is_choice = is_choice
        self._numbers = rows[:, ~is_choice]
        self._differ = [
            (column[:, None] != column).astype(np.float64) for column in rows[:, is_choice].T
        ]
        self._prior = Prior.of(rows.shape[1])

    def __call__(self, vector: Floats) -> tuple[float, Floats]:
        signal, noise = math.exp(vector[-2]), math.exp(vector[-1])
        numbers = self._numbers * np.exp(-vector[:-2][~self._is_choice])
        penalties = np.exp(-2 * vector[:-2][self._is_choice])
        shape, slope = self._shapes(numbers, penalties)
        covariance = signal * shape
        covariance.flat[:: len(shape) + 1] += noise
        factor, failed = lapack.dpotrf(covariance, lower=1, clean=1)
        if failed:
            return _NO_FACTOR, np.zeros_like(vector)
        weights, _ = lapack.dpotrs(factor, self._targets, lower=1)
        inverse, _ = lapack.dpotri(factor, lower=1)
        trace = float(inverse.trace())
        inverse += np.tril(inverse, -1).T  # only the lower half was filled
        misfit = np.multiply.outer(weights, weights)
        misfit -= inverse
        value = float(self._targets @ weights) / 2 + float(np.log(factor.diagonal()).sum())
        gradient = np.empty_like(vector)
        slope *= misfit
        slope *= signal
        gradient[:-2][~self._is_choice] = _along(slope, numbers)
        gradient[:-2][self._is_choice] = [
            -p * float((slope * d).sum()) / 2 for p, d in zip(penalties, self._differ, strict=True)
        ]
        gradient[-2] = -signal * float((misfit * shape).sum()) / 2
        gradient[-1] = -noise * (float(weights @ weights) - trace) / 2
        off = (vector - self._prior.centre) / self._prior.spread
        return value + float(off @ off) / 2, gradient + off / self._prior.spread

    def _shapes(self, numbers: Floats, penalties: Floats) -> tuple[Floats, Floats]:
        """The kernel over its signal variance, and its slope along a squared distance."""
        norms = (numbers * numbers).sum(axis=1)
        far = numbers @ numbers.T
        far *= -2
        far += norms[:, None]
        far += norms
        for penalty, differ in zip(penalties, self._differ, strict=True):
            far += penalty * differ
        np.maximum(far, 0, out=far)
        far *= 5
        np.sqrt(far, out=far)
        decayed = np.exp(-far)
        slope = (1 + far) * decayed
        shape = slope + far * far * decayed / 3
        slope *= 5 / 3
        return shape, slope


def _along(slope: Floats, numbers: Floats) -> Floats:
    """Minus half the sum over pairs of slope times squared difference, for every column."""
    gradient: Floats = (numbers * (slope @ numbers)).sum(axis=0)
    gradient -= slope.sum(axis=1) @ (numbers * numbers)
    return gradient
