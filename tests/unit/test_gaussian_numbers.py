# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the Gaussian process: slopes are slopes, a grown factor is the factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tunesmith_suggestion.algorithms.gaussian.acquisition import (
    Acquisition,
    log_expected_improvement,
    log_probability_of_improvement,
    lower_confidence_bound,
)
from tunesmith_suggestion.algorithms.gaussian.factor import Factor
from tunesmith_suggestion.algorithms.gaussian.fitting import Objective, expected, fitted
from tunesmith_suggestion.algorithms.gaussian.kernel import Hyper, Kernel
from tunesmith_suggestion.algorithms.gaussian.posterior import Posterior
from tunesmith_suggestion.algorithms.gaussian.trend import Trend
from tunesmith_suggestion.space import Floats

IS_CHOICE = np.array([False, False, True, False])
HYPER = Hyper(np.array([-0.5, 0.2, 0.1, -1.0]), 0.3, -4.0)
ACQUISITIONS = [log_expected_improvement, log_probability_of_improvement, lower_confidence_bound]


def some_rows(count: int, seed: int = 0) -> Floats:
    """Three numbers and, in the third column, one of three choices."""
    rows = np.random.default_rng(seed).random((count, 4))
    rows[:, 2] = np.floor(rows[:, 2] * 3)
    return rows


def some_targets(count: int) -> Floats:
    return np.random.default_rng(1).standard_normal(count)


def a_posterior(kernel: Kernel, count: int) -> Posterior:
    rows = some_rows(count)
    trend = Trend.over(rows, IS_CHOICE)
    return Posterior.of(Factor.of(kernel, rows), trend, rows, some_targets(count))


def slopes_by_differences(function: Callable[[Floats], float], at: Floats) -> Floats:
    steps = 1e-6 * np.eye(len(at))
    return np.array([(function(at + step) - function(at - step)) / 2e-6 for step in steps])


def test_the_gradient_of_the_fit_is_that_of_its_value() -> None:
    objective = Objective(some_rows(30), some_targets(30), IS_CHOICE)
    at = HYPER.vector()
    wanted = slopes_by_differences(lambda vector: objective(vector)[0], at)
    np.testing.assert_allclose(objective(at)[1], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_the_slope_of_a_promise_is_that_of_its_value(acquisition: Acquisition) -> None:
    posterior = a_posterior(Kernel(IS_CHOICE, HYPER), 20)
    at = some_rows(1, seed=5)[0]
    wanted = slopes_by_differences(
        lambda row: float(posterior.promises(row[None], acquisition)[0]), at
    )
    values, slopes = posterior.promises_with_slopes(at[None], acquisition, IS_CHOICE)
    np.testing.assert_allclose(slopes[0], np.where(IS_CHOICE, 0.0, wanted), rtol=1e-4, atol=1e-7)
    assert values[0] == pytest.approx(posterior.promises(at[None], acquisition)[0], rel=1e-12)


def test_a_factor_grown_row_by_row_is_the_factor_of_all_rows() -> None:
    kernel, rows = Kernel(IS_CHOICE, HYPER), some_rows(25)
    grown = Factor.of(kernel, rows[:15])
    for row in rows[15:]:
        grown = grown.grown(row)
    whole, right = Factor.of(kernel, rows), np.eye(25)
    np.testing.assert_allclose(grown.solved(right), whole.solved(right), atol=1e-9)
    np.testing.assert_allclose(grown.solved_back(right), whole.solved_back(right), atol=1e-9)


def test_rows_told_twice_have_a_factor() -> None:
    hyper = Hyper(np.zeros(4), 0.0, -40.0)
    rows = np.repeat(some_rows(3), 5, axis=0)
    factor = Factor.of(Kernel(IS_CHOICE, hyper), rows).grown(rows[0])
    assert np.isfinite(factor.solved(np.ones((16, 1)))).all()


def test_a_choice_that_differs_counts_whatever_its_index() -> None:
    kernel = Kernel(IS_CHOICE, HYPER)
    rows = np.array([[0.5, 0.5, choice, 0.5] for choice in (0.0, 1.0, 2.0)])
    covariances = kernel.covariances(kernel.scaled(rows), kernel.scaled(rows))
    assert covariances[0, 1] == covariances[0, 2] == covariances[1, 2] < covariances[0, 0]


def test_the_mean_passes_through_what_was_told_without_noise() -> None:
    kernel = Kernel(IS_CHOICE, Hyper(HYPER.scales, HYPER.signal, -18.0))
    means = a_posterior(kernel, 20).means(some_rows(20))
    np.testing.assert_allclose(means, some_targets(20), atol=1e-4)


def test_far_from_all_that_was_told_the_middle_is_expected_to_be_better_than_a_corner() -> None:
    short = Hyper(np.full(4, -6.0), 0.0, -6.0)
    middle, corner = np.array([[0.5, 0.5, 1.0, 0.5]]), np.array([[1.0, 0.0, 1.0, 1.0]])
    posterior = a_posterior(Kernel(IS_CHOICE, short), 20)
    assert posterior.means(middle)[0] < posterior.means(corner)[0] - 0.5


def test_a_category_has_no_middle() -> None:
    rows = np.array([[0.5, 0.5, choice, 0.5] for choice in (0.0, 1.0, 2.0)])
    assert len(set(Trend.over(some_rows(20), IS_CHOICE).at(rows))) == 1


def test_a_believed_point_is_a_little_worse_than_expected_and_takes_the_doubt_away() -> None:
    posterior = a_posterior(Kernel(IS_CHOICE, HYPER), 10)
    there = some_rows(1, seed=8)
    believing = posterior.believing(there[0])
    assert believing.means(there)[0] > posterior.means(there)[0]
    before = posterior.promises(there, lower_confidence_bound) + posterior.means(there)
    after = believing.promises(there, lower_confidence_bound) + believing.means(there)
    assert after[0] < before[0] / 2


def test_a_parameter_without_effect_gets_a_longer_length_scale() -> None:
    rows = some_rows(60)
    targets = np.sin(6 * rows[:, 0])
    targets = (targets - targets.mean()) / targets.std()
    hyper = fitted(rows, targets, IS_CHOICE, [expected(4)])
    assert hyper.scales[0] < min(hyper.scales[1], hyper.scales[2], hyper.scales[3]) - 0.5


def test_noise_is_told_from_signal() -> None:
    chance, rows = np.random.default_rng(3), some_rows(80)
    targets = np.sin(6 * rows[:, 0]) + 0.5 * chance.standard_normal(80)
    clean = fitted(rows, np.sin(6 * rows[:, 0]), IS_CHOICE, [expected(4)])
    noisy = fitted(rows, targets, IS_CHOICE, [expected(4)])
    assert noisy.noise > clean.noise + 2


@pytest.mark.parametrize(
    ("z", "log_improvement"),
    # log(phi(z) + z Phi(z)) computed with 80 digits
    [
        (3.0, 1.0987396653277078),
        (0.0, -0.91893853320467274),
        (-1.0, -2.4851210257126413),
        (-10.0, -55.553122036122356),
        (-100.0, -5010.1295788002498),
        (-1e5, -5000000023.9447895),
    ],
)
def test_expected_improvement_is_exact_where_it_underflows(
    z: float, log_improvement: float
) -> None:
    value, _, _ = log_expected_improvement(np.array([-z]), np.array([1.0]), 0.0)
    assert value[0] == pytest.approx(log_improvement, rel=1e-12)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_promises_are_finite_at_the_ends_of_the_scale(acquisition: Acquisition) -> None:
    means, deviations = np.array([-1e3, 0.0, 1e3, 0.0]), np.array([1e-9, 1e-9, 1e-9, 1e3])
    with np.errstate(all="raise", under="ignore"):
        found = acquisition(means, deviations, 0.0)
    assert all(np.isfinite(part).all() for part in found)
