# SPDX-License-Identifier: Apache-2.0
"""Parzen estimators on rows of numbers: the densities l(x) and g(x) of TPE.

A mixture has one kernel an observation, each a product over the columns, and a flat prior. Sources:
Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011) for
the estimator; Falkner, Klein, Hutter, "BOHB" (ICML 2018) for one joint mixture over all columns;
Watanabe, "Tree-Structured Parzen Estimator" (arXiv 2304.11127) for bandwidths and their clipping.

A mixture is over parameters that appear together. In a space with conditional parameters there
would be several such groups: one pair of mixtures each, of the rows that have the group, and the
log ratios added up (Optuna's `group`). `Columns` is what such a group would be given. Called by
`tpe_model`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_suggestion.algorithms.parzen_normal import cdf, quantile
from tunesmith_suggestion.coordinates import Integers
from tunesmith_suggestion.space import Axis, ChoiceAxis, Floats

_MOST_CELLS: Final = 64
"""A finite axis with more values than this is treated as a continuum; the cells of a smaller one
get the exact mass of a kernel."""
_LEAST_MASS: Final = 1e-300
_FLAT_WIDTH: Final = 1.0
"""Of the prior's kernel, in the middle of the axis."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of rows mean. `numbers` are all that have an order.

    `smooth` and the keys of `stepped` are places in `numbers`; `stepped` has the edges of cells,
    `choices` are (column, number of choices).
    """

    numbers: Integers
    smooth: tuple[int, ...]
    stepped: tuple[tuple[int, Floats], ...]
    choices: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return len(self.numbers) + len(self.choices)


def columns_of(axes: Sequence[Axis]) -> Columns:
    """The columns of `Coordinates.axes`."""
    numbers = [(j, axis) for j, axis in enumerate(axes) if not isinstance(axis, ChoiceAxis)]
    cells = [
        None if axis.count is None or axis.count > _MOST_CELLS else np.array(axis.edges())
        for _, axis in numbers
    ]
    return Columns(
        np.array([j for j, _ in numbers], dtype=np.int64),
        tuple(i for i, edges in enumerate(cells) if edges is None),
        tuple((i, edges) for i, edges in enumerate(cells) if edges is not None),
        tuple((j, axis.count) for j, axis in enumerate(axes) if isinstance(axis, ChoiceAxis)),
    )


@dataclass(frozen=True, slots=True)
class Kernels:
    """Normal kernels truncated to [0, 1]: number columns x components.

    `below` is the part of the untruncated kernel under 0, `inside` the part in [0, 1].
    """

    means: Floats
    widths: Floats
    below: Floats
    inside: Floats


def _kernels(means: Floats, widths: Floats) -> Kernels:
    below = cdf(-means / widths)
    return Kernels(means, widths, below, cdf((1.0 - means) / widths) - below)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weighted kernels. `masses` are the log masses of the cells of stepped columns (cells x
    components), `choices` the log probabilities of choices (choices x components)."""

    columns: Columns
    weights: Floats
    kernels: Kernels
    masses: tuple[Floats, ...]
    choices: tuple[Floats, ...]

    def sample(self, uniforms: Floats) -> Floats:
        """Rows from uniform numbers, rows x (1 + columns)."""
        bounds = np.cumsum(self.weights)
        drawn = np.searchsorted(bounds, uniforms[:, 0] * bounds[-1], side="right")
        components = np.minimum(drawn, len(bounds) - 1)
        rows = np.empty((len(uniforms), self.columns.count))
        numbers, k = self.columns.numbers, self.kernels
        means, widths = k.means[:, components].T, k.widths[:, components].T
        p = k.below[:, components].T + uniforms[:, 1 + numbers] * k.inside[:, components].T
        rows[:, numbers] = np.clip(means + widths * quantile(p), 0.0, 1.0)
        for (j, count), logs in zip(self.columns.choices, self.choices, strict=True):
            reached = np.cumsum(np.exp(logs[:, components]), axis=0) < uniforms[:, 1 + j]
            rows[:, j] = np.minimum(reached.sum(axis=0), count - 1)
        return rows

    def log_density(self, rows: Floats) -> Floats:
        """log p(row), one number a row: a density on smooth columns, a mass on the others. Sums to
        the total of the weights."""
        terms = self._smooth(rows)
        numbers = self.columns.numbers
        for (i, edges), masses in zip(self.columns.stepped, self.masses, strict=True):
            terms += masses[np.searchsorted(edges[1:-1], rows[:, numbers[i]], side="right")]
        for (j, _), logs in zip(self.columns.choices, self.choices, strict=True):
            terms += logs[rows[:, j].astype(np.intp)]
        highest = terms.max(axis=1)
        terms -= highest[:, None]
        found: Floats = highest + np.log(np.exp(terms, out=terms).sum(axis=1))
        return found

    def _smooth(self, rows: Floats) -> Floats:
        """The log of each component's weight and its kernels on smooth columns."""
        k, smooth = self.kernels, list(self.columns.smooth)
        areas = math.sqrt(2.0 * math.pi) * k.widths[smooth] * k.inside[smooth]
        terms = np.zeros((len(rows), len(self.weights)))
        for i in smooth:
            z = rows[:, self.columns.numbers[i], None] - k.means[i]
            z /= k.widths[i]
            z *= z
            terms -= z
        terms *= 0.5
        terms += np.log(self.weights) - np.log(areas).sum(axis=0)
        return terms


def log_sum(one: Floats, other: Floats) -> Floats:
    """The log density of two mixtures taken together."""
    found: Floats = np.logaddexp(one, other)
    return found


def fit(columns: Columns, rows: Floats, weights: Floats, prior_weight: float) -> Mixture:
    """The mixture of observed rows and the prior, which is the last component."""
    means = rows[:, columns.numbers].T
    prior = np.ones((len(means), 1))
    smoothing = prior_weight / (len(rows) + 1)
    flat = [np.full((count, 1), -math.log(count)) for _, count in columns.choices]
    observed = _choices(columns, rows, smoothing)
    return _mixture(
        columns,
        np.append(weights, prior_weight),
        np.hstack([means, 0.5 * prior]),
        np.hstack([bandwidths(means), _FLAT_WIDTH * prior]),
        tuple(np.hstack(logs) for logs in zip(observed, flat, strict=True)),
    )


def fit_narrow(like: Mixture, rows: Floats, share: float) -> Mixture:
    """Further kernels of weight 1 and no prior, `share` times as wide as is typical of a mixture.

    Added to it by `log_sum` they make it grow without being fitted anew.
    """
    means = rows[:, like.columns.numbers].T
    typical = share * np.median(like.kernels.widths, axis=1, keepdims=True)
    smoothing = float(like.weights[-1]) / len(like.weights)
    return _mixture(
        like.columns,
        np.ones(len(rows)),
        means,
        np.broadcast_to(typical, means.shape),
        _choices(like.columns, rows, smoothing),
    )


def _choices(columns: Columns, rows: Floats, smoothing: float) -> tuple[Floats, ...]:
    """Log probabilities, choices x rows a column: 1 for what was observed, `smoothing` for each."""
    found = []
    for j, count in columns.choices:
        made = np.full((count, len(rows)), smoothing)
        made[rows[:, j].astype(np.intp), np.arange(len(rows))] += 1.0
        found.append(np.log(made / (1.0 + count * smoothing)))
    return tuple(found)


def _mixture(
    columns: Columns, weights: Floats, means: Floats, widths: Floats, choices: tuple[Floats, ...]
) -> Mixture:
    kernels = _kernels(means, widths)
    masses = tuple(_masses(means[i], widths[i], edges) for i, edges in columns.stepped)
    return Mixture(columns, weights, kernels, masses, choices)


def _masses(means: Floats, widths: Floats, edges: Floats) -> Floats:
    """Log masses: cells x components. Equal kernels, of which there are many, are computed once."""
    distinct, places = np.unique(means + 1j * widths, return_inverse=True)
    below = cdf((edges[:, None] - distinct.real) / distinct.imag)
    mass = np.diff(below, axis=0)
    found: Floats = np.log(np.maximum(mass / mass.sum(axis=0), _LEAST_MASS))[:, places]
    return found


def bandwidths(observed: Floats) -> Floats:
    """Columns x observations: the distance to the farther neighbour in the column, clipped from
    below (hyperopt's "magic clip") and to 1. The bounds are no neighbours."""
    count = observed.shape[1]
    if count == 0:
        return observed
    order = np.argsort(observed, axis=1, kind="stable")
    ascending = np.take_along_axis(observed, order, axis=1)
    if count == 1:
        widths = np.maximum(ascending, 1.0 - ascending)
    else:
        gaps = np.diff(ascending, axis=1)
        widths = np.hstack([gaps[:, :1], np.maximum(gaps[:, :-1], gaps[:, 1:]), gaps[:, -1:]])
    found = np.empty_like(widths)
    least = 1.0 / min(100.0, 2.0 + count)
    np.put_along_axis(found, order, np.clip(widths, least, 1.0), axis=1)
    return found
