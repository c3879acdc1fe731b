# SPDX-License-Identifier: Apache-2.0
"""Parzen estimators on axes of [0, 1]: the densities l(x) and g(x) of TPE.

Sources: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization" (NeurIPS
2011) for the estimator; Bergstra, Yamins, Cox (ICML 2013) for the linear forgetting of old
observations; Falkner, Klein, Hutter, "BOHB" (ICML 2018) for one joint mixture over all axes;
Watanabe, "Tree-Structured Parzen Estimator" (arXiv 2304.11127) for bandwidths and their clipping.

A mixture has one component an observation, plus a flat prior. Called by `tpe`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunesmith_suggestion.space import Axis, ChoiceAxis

Floats = npt.NDArray[np.float64]

_UNFORGOTTEN = 25
"""The newest observations that keep their full weight."""
_MOST_CELLS = 64
"""A stepped axis with more values than this is treated as a continuum; the cells of a smaller one
get the exact mass of a kernel."""
_LEAST_MASS = 1e-300
_STANDARD = NormalDist()
_erf = np.frompyfunc(math.erf, 1, 1)


def _cdf(z: Floats) -> Floats:
    """Standard normal distribution function."""
    errors: Floats = np.asarray(_erf(z * math.sqrt(0.5)), dtype=np.float64)
    return 0.5 + 0.5 * errors


@dataclass(frozen=True, slots=True)
class ChoiceKernels:
    """`rows[i]` are the probabilities of the choices in component i."""

    rows: Floats

    def sample(self, components: npt.NDArray[np.intp], uniforms: Floats) -> Floats:
        below = np.cumsum(self.rows[components], axis=1) < uniforms[:, None]
        found = np.minimum(below.sum(axis=1), self.rows.shape[1] - 1)
        return np.asarray(found, dtype=np.float64)

    def log_density(self, points: Floats) -> Floats:
        """log p(point | component): points x components."""
        found: Floats = np.log(self.rows[:, points.astype(np.intp)].T)
        return found


@dataclass(frozen=True, slots=True)
class NumberKernels:
    """Normal kernels truncated to [0, 1]. `edges` are those of the cells of a stepped axis."""

    means: Floats
    widths: Floats
    edges: Floats | None

    def sample(self, components: npt.NDArray[np.intp], uniforms: Floats) -> Floats:
        drawn = [
            _truncated_quantile(float(self.means[c]), float(self.widths[c]), float(u))
            for c, u in zip(components, uniforms, strict=True)
        ]
        return np.array(drawn)

    def log_density(self, points: Floats) -> Floats:
        """log p(point | component), of the point's cell on a stepped axis: points x components."""
        inside = np.log(_cdf((1.0 - self.means) / self.widths) - _cdf(-self.means / self.widths))
        if self.edges is None:
            z = (points[:, None] - self.means) / self.widths
            flat: Floats = -0.5 * z * z - np.log(self.widths * math.sqrt(2 * math.pi)) - inside
            return flat
        cells = np.clip(np.searchsorted(self.edges, points) - 1, 0, len(self.edges) - 2)
        wanted, where = np.unique(cells, return_inverse=True)
        mass = self._below(self.edges[wanted + 1]) - self._below(self.edges[wanted])
        of_cell: Floats = np.log(np.maximum(mass, _LEAST_MASS)) - inside
        return of_cell[where]

    def _below(self, edges: Floats) -> Floats:
        return _cdf((edges[:, None] - self.means) / self.widths)


Kernels = ChoiceKernels | NumberKernels


@dataclass(frozen=True, slots=True)
class Mixture:
    """A joint density over some axes: weighted components, each a product of kernels."""

    weights: Floats
    kernels: tuple[Kernels, ...]

    def sample(self, uniforms: Floats) -> Floats:
        """Points x axes from uniform numbers, points x (1 + axes)."""
        bounds = np.cumsum(self.weights)
        components = np.minimum(
            np.searchsorted(bounds, uniforms[:, 0] * bounds[-1]), len(self.weights) - 1
        )
        columns = [k.sample(components, uniforms[:, i + 1]) for i, k in enumerate(self.kernels)]
        return np.stack(columns, axis=1)

    def log_density(self, points: Floats) -> Floats:
        """log p(point): one number a point."""
        terms = np.log(self.weights) + sum(
            kernel.log_density(points[:, i]) for i, kernel in enumerate(self.kernels)
        )
        highest = terms.max(axis=1)
        total: Floats = highest + np.log(np.exp(terms - highest[:, None]).sum(axis=1))
        return total


def fit(
    axes: Sequence[Axis], edges: Sequence[Floats | None], observed: Floats, prior_weight: float
) -> Mixture:
    """The mixture of observations (rows, oldest first; columns as `axes`) and the prior."""
    kernels: list[Kernels] = []
    for i, axis in enumerate(axes):
        if isinstance(axis, ChoiceAxis):
            kernels.append(_choice_kernels(observed[:, i], axis.count, prior_weight))
        else:
            kernels.append(_number_kernels(observed[:, i], edges[i]))
    weights = np.append(_recency(len(observed)), prior_weight)
    return Mixture(weights / weights.sum(), tuple(kernels))


def cell_edges(axis: Axis) -> Floats | None:
    """The edges that `fit` wants for an axis: None where the axis counts as a continuum."""
    if isinstance(axis, ChoiceAxis) or axis.count is None or axis.count > _MOST_CELLS:
        return None
    return np.array(axis.edges())


def _recency(n: int) -> Floats:
    """Weights of n observations, oldest first: a ramp from 1/n, then full weight."""
    if n < _UNFORGOTTEN:
        return np.ones(n)
    return np.concatenate([np.linspace(1.0 / n, 1.0, n - _UNFORGOTTEN), np.ones(_UNFORGOTTEN)])


def _choice_kernels(observed: Floats, count: int, prior_weight: float) -> ChoiceKernels:
    components = len(observed) + 1
    rows = np.full((components, count), prior_weight / components)
    rows[np.arange(len(observed)), observed.astype(np.intp)] += 1.0
    return ChoiceKernels(rows / rows.sum(axis=1, keepdims=True))


def _number_kernels(observed: Floats, edges: Floats | None) -> NumberKernels:
    """The prior is the last component: mean 1/2, width 1."""
    means = np.append(observed, 0.5)
    widths = np.append(_bandwidths(observed), 1.0)
    return NumberKernels(means, widths, edges)


def _bandwidths(observed: Floats) -> Floats:
    """The distance to the farther neighbour, clipped from below ("magic clip") and to 1."""
    if len(observed) == 0:
        return observed
    order = np.argsort(observed, kind="stable")
    around = np.concatenate([[0.0], observed[order], [1.0]])
    gaps = np.diff(around)
    widths = np.maximum(gaps[:-1], gaps[1:])
    if len(observed) > 1:
        # The outermost observations have one neighbour; the bounds are not observations.
        widths[0], widths[-1] = gaps[1], gaps[-2]
    least = 1.0 / min(100.0, 2.0 + len(observed))
    result = np.empty_like(widths)
    result[order] = np.clip(widths, least, 1.0)
    return result


def _truncated_quantile(mean: float, width: float, u: float) -> float:
    first, last = _STANDARD.cdf(-mean / width), _STANDARD.cdf((1.0 - mean) / width)
    p = first + u * (last - first)
    if not 0.0 < p < 1.0:
        return mean
    return min(max(mean + width * _STANDARD.inv_cdf(p), 0.0), 1.0)
