# SPDX-License-Identifier: Apache-2.0
"""What TPE learns from a history: who is among the best, who repels, what is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState, Pending
from tunesmith_api.search_space import DoubleParameter, SearchSpace
from tunesmith_suggestion.algorithms.parzen import columns_of
from tunesmith_suggestion.algorithms.tpe_model import Model, Rules, background, learn
from tunesmith_suggestion.coordinates import Table, Tables
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import METRIC, a_problem

LINE = SearchSpace((DoubleParameter("x", 0.0, 1.0),))
DONE, STOPPED = OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED
FAILED, KILLED = OutcomeState.FAILED, OutcomeState.KILLED
Trial = tuple[float, OutcomeState, float]


def a_table(trials: Sequence[Trial], running: Sequence[float] = ()) -> Table:
    outcomes = tuple(
        Outcome(k, {"x": x}, state, {METRIC: loss} if state in (DONE, STOPPED) else {})
        for k, (x, state, loss) in enumerate(trials)
    )
    pending = tuple(Pending(len(trials) + i, {"x": x}) for i, x in enumerate(running))
    compiled = compile_space(LINE)
    return Tables().of(a_problem("tpe", LINE), History(outcomes, pending), compiled)


def learnt(trials: Sequence[Trial], gamma: float | None = None) -> Model:
    table = a_table(trials)
    return learn(columns_of(table.coordinates.axes), table, Rules(gamma, 1.0, 24))


def kernels_of_the_best(trials: Sequence[Trial]) -> list[float]:
    """Where they are, without the prior's."""
    return [float(x) for x in learnt(trials).good.kernels.means[0, :-1]]


def kernels_of_the_rest(trials: Sequence[Trial]) -> list[float]:
    return [float(x) for x in learnt(trials).bad.kernels.means[0, :-1]]


def line_of(count: int) -> list[Trial]:
    return [(k / count, DONE, float(k)) for k in range(count)]


def test_the_trials_with_the_smallest_losses_are_the_best_and_all_others_the_rest() -> None:
    trials = line_of(20)
    best, rest = kernels_of_the_best(trials), kernels_of_the_rest(trials)
    assert best == [k / 20 for k in range(len(best))]
    assert sorted(best + rest) == [k / 20 for k in range(20)]


def test_of_equal_trials_the_first_are_the_best() -> None:
    trials = [(k / 20, DONE, 1.0) for k in range(20)]
    best = kernels_of_the_best(trials)
    assert best == [k / 20 for k in range(len(best))]


def test_failed_trials_repel_and_killed_ones_teach_nothing() -> None:
    trials = [*line_of(20), (0.33, FAILED, 0.0), (0.77, KILLED, 0.0)]
    everywhere = kernels_of_the_best(trials) + kernels_of_the_rest(trials)
    assert 0.33 in kernels_of_the_rest(trials) and 0.77 not in everywhere


def test_stopped_trials_are_among_the_best_only_where_too_few_have_succeeded() -> None:
    stopped: list[Trial] = [(0.5 + k / 100, STOPPED, -1.0 - k) for k in range(20)]
    assert max(kernels_of_the_best([*line_of(20), *stopped])) < 0.5
    assert kernels_of_the_best([(0.1, DONE, 5.0), *stopped])[:1] == [0.1]
    assert max(kernels_of_the_best([(0.1, DONE, 5.0), *stopped])) == pytest.approx(0.69)


def test_better_points_weigh_more_and_their_weights_have_mean_one() -> None:
    good = learnt(line_of(40)).good
    weights = good.weights[:-1]
    assert list(weights) == sorted(weights, reverse=True) and weights[0] > 1.5 * weights[-1]
    assert weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e308, 1e-320])
def test_weights_are_finite_whatever_the_size_of_losses(scale: float) -> None:
    trials = [(k / 40, DONE, (k - 20) / 20 * scale) for k in range(40)]
    weights = learnt(trials).good.weights
    assert np.isfinite(weights).all() and (weights > 0).all()


def test_prior_weight_is_that_of_the_flat_kernel() -> None:
    table = a_table(line_of(20))
    model = learn(columns_of(table.coordinates.axes), table, Rules(None, 3.0, 24))
    assert model.good.weights[-1] == model.bad.weights[-1] == 3.0


def test_katibs_gamma_is_a_share_of_the_square_root() -> None:
    assert learnt(line_of(100), gamma=0.7).good.kernels.means.shape[1] == 7 + 1


def test_running_trials_repel() -> None:
    model = learnt([(k / 30, DONE, abs(k / 30 - 0.5)) for k in range(30)])

    def near_the_best(running: list[float]) -> int:
        pending = a_table([], running).pending_rows
        tops = [
            model.ranked(np.random.Generator(np.random.Philox(seed)), pending)[0, 0]
            for seed in range(60)
        ]
        return sum(abs(float(top) - 0.5) < 0.05 for top in tops)

    assert near_the_best([0.5] * 20) < 0.7 * near_the_best([])


@pytest.mark.parametrize("count", [0, 1, 24, 25, 26, 256, 257, 512, 513, 769, 10_000, 100_000])
def test_the_background_is_bounded_and_stands_for_all(count: int) -> None:
    kept, weights = background(count)
    assert len(kept) == len(weights) <= 512
    assert list(kept) == sorted(set(kept.tolist())) and (weights > 0).all()
    assert list(kept[-256:]) == list(range(max(count - 256, 0), count))
    ramp = np.minimum((np.arange(count) + 1.0) / max(count - 25, 1), 1.0)
    assert weights.sum() == pytest.approx(ramp.sum(), rel=0.02)


def test_the_choice_of_old_observations_changes_only_when_their_number_doubles() -> None:
    old = [set(background(n)[0][:100].tolist()) for n in range(2000, 2100)]
    assert all(kept == old[0] for kept in old)
