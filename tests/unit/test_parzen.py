# SPDX-License-Identifier: Apache-2.0
"""The densities of TPE: they are densities, and their kernels have the published widths."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith_api.search_space import DoubleParameter, IntParameter, ListParameter, SearchSpace
from tunesmith_suggestion.algorithms.parzen import (
    Floats,
    Mixture,
    NumberKernels,
    cell_edges,
    fit,
)
from tunesmith_suggestion.space import compile_space

LINE = SearchSpace((DoubleParameter("x", 0.0, 1.0),))
STEPS = SearchSpace((IntParameter("n", 1, 5),))
CHOICES = SearchSpace((ListParameter("c", ("a", "b", "c")),))
PLANE = SearchSpace((*LINE.parameters, *STEPS.parameters, *CHOICES.parameters))


def mixture(space: SearchSpace, rows: list[list[float]], prior_weight: float = 1.0) -> Mixture:
    axes = compile_space(space).axes
    observed: Floats = np.array(rows, dtype=np.float64).reshape(len(rows), len(axes))
    return fit(axes, [cell_edges(axis) for axis in axes], observed, prior_weight)


def column(values: Floats) -> Floats:
    return values.reshape(-1, 1)


@pytest.mark.parametrize("rows", [[], [[0.4]], [[0.0], [0.1], [0.95], [1.0]]])
def test_a_density_on_a_continuum_integrates_to_one(rows: list[list[float]]) -> None:
    middle = (np.arange(20_000) + 0.5) / 20_000
    density = np.exp(mixture(LINE, rows).log_density(column(middle)))
    assert density.mean() == pytest.approx(1.0, abs=1e-4)


def test_the_masses_of_steps_and_of_choices_add_up_to_one() -> None:
    steps = mixture(STEPS, [[0.1], [0.1], [0.7]]).log_density(column(np.arange(5) / 5 + 0.1))
    choices = mixture(CHOICES, [[0.0], [2.0], [2.0]]).log_density(column(np.arange(3.0)))
    assert np.exp(steps).sum() == pytest.approx(1.0)
    assert np.exp(choices).sum() == pytest.approx(1.0)
    assert np.argmax(choices) == 2 and np.argmax(steps) == 0


def test_widths_are_the_distance_to_the_farther_neighbour_of_the_observations() -> None:
    (kernels,) = mixture(LINE, [[0.9], [0.2], [0.5]]).kernels
    assert isinstance(kernels, NumberKernels)
    # In the order of observation, then the prior: 0.9 and 0.2 have one neighbour, 0.5 two.
    assert kernels.widths == pytest.approx([0.4, 0.3, 0.4, 1.0])
    assert kernels.means == pytest.approx([0.9, 0.2, 0.5, 0.5])


def test_widths_of_crowded_points_are_clipped() -> None:
    (kernels,) = mixture(LINE, [[0.5]] * 6).kernels
    assert isinstance(kernels, NumberKernels)
    assert kernels.widths[:-1] == pytest.approx([1 / 8] * 6)


def test_the_newest_observations_weigh_most_and_the_prior_as_much_as_it_is_told() -> None:
    weights = mixture(LINE, [[k / 40] for k in range(40)], prior_weight=2.0).weights
    assert weights.sum() == pytest.approx(1.0)
    assert list(weights[:16]) == sorted(weights[:16]) and weights[0] < weights[14]
    assert weights[15:40] == pytest.approx([weights[39]] * 25)
    assert weights[40] == pytest.approx(2.0 * weights[39])


def test_samples_follow_the_density() -> None:
    made = mixture(PLANE, [[0.2, 0.1, 0.0]] * 30)
    chance = np.random.Generator(np.random.Philox(1))
    drawn = made.sample(chance.random((2000, 4)))
    assert drawn.min(axis=0)[0] >= 0.0 and drawn.max(axis=0)[0] <= 1.0
    assert abs(float(np.median(drawn[:, 0])) - 0.2) < 0.05
    assert float((drawn[:, 2] == 0.0).mean()) > 0.9
    typical, odd = made.log_density(np.array([[0.2, 0.1, 0.0], [0.9, 0.9, 2.0]]))
    assert typical > odd + 3
