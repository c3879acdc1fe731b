# SPDX-License-Identifier: Apache-2.0
"""The Cholesky factor of a covariance matrix that grows by a row at a time.

The first rows (those the hyper-parameters were fitted on) are factored at once, every later one is
added at the cost of two triangular solves. Which came first is part of the factor: the same rows in
the same order give the same bits, whether they were added today or in an earlier call. Used by
`posterior`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack

from tunesmith_suggestion.algorithms.gaussian.kernel import Kernel, Scaled
from tunesmith_suggestion.space import Floats

_LEAST_VARIANCE = 1e-10
_MOST_TRIES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The blocks [[base, 0], [cross, corner]] of the lower factor; never written to."""

    kernel: Kernel
    base_rows: Scaled
    base: Floats
    rows: Scaled
    cross: Floats
    corner: Floats

    @classmethod
    def of(cls, kernel: Kernel, rows: Floats) -> Factor:
        """All rows at once."""
        scaled = kernel.scaled(rows)
        covariance = kernel.covariances(scaled, scaled)
        base = _cholesky(covariance, kernel.noise)
        return cls(kernel, scaled, base, scaled, np.empty((0, len(rows))), np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.rows)

    def grown(self, row: Floats) -> Factor:
        """With one more row."""
        one = self.kernel.scaled(row[None])
        solved = self.solved(self.kernel.covariances(self.rows, one))[:, 0]
        count, size = len(self.base_rows), len(self.corner)
        rest = self.kernel.signal + self.kernel.noise - float(solved @ solved)
        corner = np.zeros((size + 1, size + 1))
        corner[:size, :size] = self.corner
        corner[size, :size] = solved[count:]
        corner[size, size] = math.sqrt(max(rest, _LEAST_VARIANCE))
        cross = np.concatenate([self.cross, solved[None, :count]])
        return Factor(self.kernel, self.base_rows, self.base, self.rows.joined(one), cross, corner)

    def solved(self, right: Floats) -> Floats:
        """The inverse factor times a matrix of as many rows."""
        count = len(self.base_rows)
        first = blas.dtrsm(1.0, self.base, np.asfortranarray(right[:count]), lower=1)
        if not len(self.corner):
            return np.asarray(first)
        rest = np.asfortranarray(right[count:] - self.cross @ first)
        last = blas.dtrsm(1.0, self.corner, rest, lower=1)
        return np.concatenate([first, last])

    def solved_back(self, right: Floats) -> Floats:
        """The transposed inverse factor times a matrix of as many rows."""
        count = len(self.base_rows)
        if not len(self.corner):
            return np.asarray(blas.dtrsm(1.0, self.base, right, lower=1, trans_a=1))
        last = blas.dtrsm(1.0, self.corner, right[count:], lower=1, trans_a=1)
        rest = np.asfortranarray(right[:count] - self.cross.T @ last)
        first = blas.dtrsm(1.0, self.base, rest, lower=1, trans_a=1)
        return np.concatenate([first, last])


def _cholesky(covariance: Floats, noise: float) -> Floats:
    """With more noise where rounding makes the matrix indefinite."""
    for _ in range(_MOST_TRIES):
        noisy = covariance.copy(order="F")
        noisy.flat[:: len(noisy) + 1] += noise
        factor, failed = lapack.dpotrf(noisy, lower=1, clean=1)
        if not failed:
            return np.asarray(factor)
        noise = max(noise * 10, 1e-8)
    raise ArithmeticError("a covariance matrix has no Cholesky factor")
