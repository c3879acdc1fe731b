# SPDX-License-Identifier: Apache-2.0
"""The covariance of two points: Matérn 5/2 with a length scale for every parameter.

Numbers differ by their distance in the unit interval, categories by being different or not; either
is divided by the parameter's length scale before the squares are summed (a Hamming distance inside
a stationary kernel, as in Ru et al., "Bayesian optimisation over multiple continuous and
categorical inputs", ICML 2020). Rows must be snapped: then the kernel sees the points that are
evaluated (Garrido-Merchán and Hernández-Lobato, Neurocomputing 380, 2020). Used by `fitting`
and `factor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunesmith_suggestion.coordinates import Flags
from tunesmith_suggestion.space import Floats

_ROOT_FIVE = math.sqrt(5)


@dataclass(frozen=True, slots=True, eq=False)
class Hyper:
    """What is fitted, on a logarithmic scale: `scales` of the columns, variances of signal and
    noise in units of the targets' variance."""

    scales: Floats
    signal: float
    noise: float

    def vector(self) -> Floats:
        return np.append(self.scales, [self.signal, self.noise])

    @classmethod
    def of(cls, vector: Floats) -> Hyper:
        return cls(vector[:-2], float(vector[-2]), float(vector[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Rows made ready for the kernel: numbers over their length scales, and choices."""

    numbers: Floats
    norms: Floats
    choices: Floats

    def __len__(self) -> int:
        return len(self.numbers)

    def joined(self, other: Scaled) -> Scaled:
        return Scaled(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.norms, other.norms]),
            np.concatenate([self.choices, other.choices]),
        )


class Kernel:
    """The kernel of one set of hyper-parameters."""

    def __init__(self, is_choice: Flags, hyper: Hyper) -> None:
        self.hyper = hyper
        self.signal = math.exp(hyper.signal)
        self.noise = math.exp(hyper.noise)
        self._is_choice = is_choice
        self.inverse = np.exp(-hyper.scales[~is_choice])
        """One over the length scales of the numbers."""
        self._penalties = np.exp(-2 * hyper.scales[is_choice])

    def scaled(self, rows: Floats) -> Scaled:
        numbers = rows[:, ~self._is_choice] * self.inverse
        return Scaled(numbers, (numbers * numbers).sum(axis=1), rows[:, self._is_choice])

    def distances(self, a: Scaled, b: Scaled) -> Floats:
        """sqrt(5) times the scaled distances, a x b."""
        squares = a.numbers @ b.numbers.T
        squares *= -2
        squares += a.norms[:, None]
        squares += b.norms
        for j, penalty in enumerate(self._penalties):
            squares += (a.choices[:, j, None] != b.choices[:, j]) * penalty
        np.maximum(squares, 0, out=squares)
        np.sqrt(squares, out=squares)
        squares *= _ROOT_FIVE
        return squares

    def covariances(self, a: Scaled, b: Scaled) -> Floats:
        """Without noise."""
        return self.with_slopes(a, b)[0]

    def with_slopes(self, a: Scaled, b: Scaled) -> tuple[Floats, Floats]:
        """Covariances, and what multiplies (b - a) / scale to give their slope along a."""
        far = self.distances(a, b)
        decayed = np.exp(-far)
        decayed *= self.signal
        slopes = (1 + far) * decayed
        far *= far
        far *= decayed
        far /= 3
        far += slopes
        slopes *= 5 / 3
        return far, slopes
