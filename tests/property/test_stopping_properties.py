# SPDX-License-Identifier: Apache-2.0
"""What holds of medianstop for any curves: it is fair, and it forgets nothing it needs."""

from __future__ import annotations

import math
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import StopProblem
from tunesmith_earlystopping.rules.medianstop import MedianStop
from tunesmith_earlystopping.testing import curves, directions

RULE = MedianStop()
FINITE = st.floats(-1e6, 1e6)
WHOLE = st.integers(-9, 9).map(float)
"""Sums of these are exact, and so are they times a power of two."""
CHECKED = settings(max_examples=200, deadline=None, database=None)


def chosen() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {
            "statistic": st.sampled_from(["median", "mean"]),
            "horizon": st.sampled_from(["step", "start"]),
            "start_step": st.sampled_from(["1", "2", "4"]),
            "min_trials_required": st.sampled_from(["1", "3"]),
        }
    )


def a_problem(direction: Direction, given_settings: dict[str, str]) -> StopProblem:
    return StopProblem(RULE.name, "loss", direction, given_settings)


def as_loss(direction: Direction, value: float) -> float:
    """Lower is better; what is not finite is worse than everything."""
    if not math.isfinite(value):
        return math.inf
    return value if direction is Direction.MINIMIZE else -value


@CHECKED
@given(
    pairs=st.lists(st.tuples(curves(1), curves(1)).filter(all), max_size=12),
    peers=st.lists(curves(), max_size=6),
    direction=directions(),
    given_settings=chosen(),
)
def test_a_better_curve_is_never_stopped_where_a_worse_one_goes_on(
    pairs: list[tuple[list[float], list[float]]],
    peers: list[list[float]],
    direction: Direction,
    given_settings: dict[str, str],
) -> None:
    problem = a_problem(direction, given_settings)
    digests = [digest for peer in peers if (digest := RULE.digest(problem, peer))]
    values = [sorted((a[0], b[0]), key=lambda v: as_loss(direction, v)) for a, b in pairs]
    better, worse = [v[0] for v in values], [v[1] for v in values]
    if not RULE.judge(problem, worse, digests).stop:
        assert not RULE.judge(problem, better, digests).stop


@CHECKED
@given(
    curve=st.lists(WHOLE, min_size=4, max_size=9),
    peers=st.lists(st.lists(WHOLE, min_size=1, max_size=9), min_size=3, max_size=7),
    scale=st.sampled_from([0.5, 2.0, 1024.0]),
    direction=directions(),
)
def test_the_unit_of_the_metric_does_not_matter(
    curve: list[float], peers: list[list[float]], scale: float, direction: Direction
) -> None:
    def stops(factor: float, towards: Direction) -> bool:
        problem = a_problem(towards, {})
        digests = [RULE.digest(problem, [value * factor for value in peer]) for peer in peers]
        return RULE.judge(problem, [value * factor for value in curve], digests).stop

    opposite = next(other for other in Direction if other is not direction)
    assert stops(scale, direction) == stops(1.0, direction) == stops(-1.0, opposite)


@CHECKED
@given(
    curve=st.lists(FINITE, min_size=4, max_size=9),
    peers=st.lists(st.lists(FINITE, min_size=1, max_size=12), min_size=3, max_size=7),
)
def test_the_threshold_is_that_of_the_definition(
    curve: list[float], peers: list[list[float]]
) -> None:
    problem = a_problem(Direction.MINIMIZE, {})
    found = RULE.judge(problem, curve, [RULE.digest(problem, peer) for peer in peers])
    averages = [statistics.mean(peer[: len(curve)]) for peer in peers]
    wanted = statistics.median(averages)
    if math.isclose(min(curve), wanted, rel_tol=1e-9, abs_tol=1e-9):
        return
    assert found.stop == (min(curve) > wanted)
    if found.stop:
        assert math.isclose(found.threshold or 0.0, wanted, rel_tol=1e-9, abs_tol=1e-9)
