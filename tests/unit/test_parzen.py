# SPDX-License-Identifier: Apache-2.0
"""The densities of TPE: they are densities, and their kernels have the published widths."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SearchSpace,
)
from tunesmith_suggestion.algorithms.parzen import Mixture, columns_of, fit, fit_narrow, log_sum
from tunesmith_suggestion.algorithms.parzen_normal import cdf, quantile
from tunesmith_suggestion.space import Floats, compile_space

LINE = SearchSpace((DoubleParameter("x", 0.0, 1.0),))
STEPS = SearchSpace((IntParameter("n", 1, 5),))
CHOICES = SearchSpace((ListParameter("c", ("a", "b", "c")),))
LISTED = SearchSpace((ListParameter("d", ("1", "2", "4", "8", "16"), ParameterType.DISCRETE),))
PLANE = SearchSpace((*CHOICES.parameters, *LINE.parameters, *STEPS.parameters))
FIFTHS = np.arange(5) / 5 + 0.1


def mixture(space: SearchSpace, rows: list[list[float]], prior_weight: float = 1.0) -> Mixture:
    axes = compile_space(space).axes
    observed: Floats = np.array(rows, dtype=np.float64).reshape(len(rows), len(axes))
    return fit(columns_of(axes), observed, np.ones(len(rows)), prior_weight)


def density(made: Mixture, values: Floats) -> Floats:
    """On the only column, divided by the weights' total."""
    found: Floats = np.exp(made.log_density(values.reshape(-1, 1))) / made.weights.sum()
    return found


@pytest.mark.parametrize("rows", [[], [[0.4]], [[0.0], [0.1], [0.95], [1.0]]])
def test_a_density_on_a_continuum_integrates_to_one(rows: list[list[float]]) -> None:
    middle = (np.arange(20_000) + 0.5) / 20_000
    assert density(mixture(LINE, rows), middle).mean() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("space", [STEPS, LISTED])
def test_the_masses_of_cells_add_up_to_one_and_fall_with_the_distance(space: SearchSpace) -> None:
    masses = density(mixture(space, [[0.1], [0.1], [0.1]]), FIFTHS)
    assert masses.sum() == pytest.approx(1.0)
    assert list(masses) == sorted(masses, reverse=True)


def test_the_probabilities_of_choices_add_up_to_one() -> None:
    found = density(mixture(CHOICES, [[0.0], [2.0], [2.0]]), np.arange(3.0))
    assert found.sum() == pytest.approx(1.0)
    assert found[2] > found[0] > found[1] > 0


def test_widths_are_the_distance_to_the_farther_neighbour_of_the_observations() -> None:
    kernels = mixture(LINE, [[0.9], [0.2], [0.5]]).kernels
    # In the order of observation, then the prior: 0.9 and 0.2 have one neighbour, 0.5 two.
    assert kernels.widths[0] == pytest.approx([0.4, 0.3, 0.4, 1.0])
    assert kernels.means[0] == pytest.approx([0.9, 0.2, 0.5, 0.5])


def test_widths_of_crowded_points_are_clipped() -> None:
    kernels = mixture(LINE, [[0.5]] * 6).kernels
    assert kernels.widths[0, :-1] == pytest.approx([1 / 8] * 6)


def test_samples_follow_the_density() -> None:
    made = mixture(PLANE, [[0.0, 0.2, 0.1]] * 30)
    chance = np.random.Generator(np.random.Philox(1))
    drawn = made.sample(chance.random((2000, 4)))
    assert drawn[:, 1].min() >= 0.0 and drawn[:, 1].max() <= 1.0
    assert abs(float(np.median(drawn[:, 1])) - 0.2) < 0.05
    assert float((drawn[:, 0] == 0.0).mean()) > 0.9
    typical, odd = made.log_density(np.array([[0.0, 0.2, 0.1], [2.0, 0.9, 0.9]]))
    assert typical > odd + 3


def test_samples_of_a_mixture_of_two_far_kernels_are_half_near_each() -> None:
    made = mixture(LINE, [[0.1]] * 50 + [[0.9]] * 50, prior_weight=1e-9)
    drawn = made.sample(np.random.Generator(np.random.Philox(2)).random((4000, 2)))
    share = float((drawn[:, 0] < 0.5).mean())
    assert share == pytest.approx(0.5, abs=0.04)


def test_a_mixture_grows_by_kernels_of_a_share_of_its_typical_width() -> None:
    base = mixture(PLANE, [[0.0, 0.2, 0.1], [1.0, 0.6, 0.5], [1.0, 0.8, 0.9]])
    more = fit_narrow(base, np.array([[2.0, 0.4, 0.7]]), 0.5)
    typical = np.median(base.kernels.widths, axis=1, keepdims=True)
    assert more.kernels.widths == pytest.approx(0.5 * typical)
    points = np.array([[2.0, 0.4, 0.7], [0.0, 0.2, 0.1]])
    before = base.log_density(points)
    near, far = log_sum(before, more.log_density(points)) - before
    assert near > 5 * far > 0


def test_the_normal_distribution_agrees_with_the_standard_library() -> None:
    exact, z = NormalDist(), np.linspace(-8.0, 8.0, 1601)
    assert cdf(z) == pytest.approx([0.5 * math.erfc(-x / math.sqrt(2)) for x in z], abs=1e-15)
    p = np.concatenate([np.linspace(0.001, 0.999, 999), 10.0 ** -np.arange(4, 300, 7)])
    assert quantile(p) == pytest.approx([exact.inv_cdf(x) for x in p], rel=1e-14, abs=1e-15)


def test_quantiles_are_finite_at_the_ends_too() -> None:
    assert np.isfinite(quantile(np.array([0.0, 1.0]))).all()
    assert cdf(np.array([-1e300, 1e300])).tolist() == pytest.approx([0.0, 1.0])
