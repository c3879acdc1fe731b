# SPDX-License-Identifier: Apache-2.0
"""medianstop, case by case: who is stopped, at which report, against which threshold."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import pytest

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import GO_ON, StopDecision, StopProblem
from tunesmith_earlystopping.core import LocalRules
from tunesmith_earlystopping.protocol import Comparison
from tunesmith_earlystopping.rules.medianstop import MAX_STEPS, MedianStop

NAN, INF = math.nan, math.inf
UP, DOWN = Direction.MAXIMIZE, Direction.MINIMIZE
FLAT = ([0.2] * 9, [0.5] * 9, [0.9] * 9)
"""Three peers whose running means are 0.2, 0.5 and 0.9 at every report."""


def problem(direction: Direction = UP, /, **settings: str) -> StopProblem:
    return StopProblem("medianstop", "accuracy", direction, settings)


def judged(
    curve: Sequence[float],
    peers: Sequence[Sequence[float]] = FLAT,
    direction: Direction = UP,
    /,
    **settings: str,
) -> StopDecision:
    rules, about = LocalRules(), problem(direction, **settings)
    digests = [digest for peer in peers if (digest := rules.digest(about, peer))]
    return rules.judge(about, curve, digests)


@pytest.mark.parametrize(
    ("curve", "direction", "stops"),
    [
        ([0.1, 0.2, 0.3, 0.4], UP, True),
        ([0.1, 0.2, 0.3], UP, False),  # not before start_step
        ([0.1, 0.6, 0.3, 0.2], UP, False),  # its best counts, not its last
        ([0.5, 0.1, 0.1, 0.1], UP, False),  # as good as the median is good enough
        ([0.1] * 20, UP, True),  # peers that ended before contribute their full mean
        ([0.4, 0.4, 0.4, 0.4], DOWN, False),
        ([0.6, 0.7, 0.8, 0.9], DOWN, True),
        ([0.9, 0.8, 0.7, 0.5], DOWN, False),
        ([NAN, 0.6, INF, NAN], UP, False),
        ([NAN, 0.4, INF, INF], UP, True),  # infinity is never good
        ([NAN, 0.6, -INF, -INF], DOWN, True),
        ([NAN, NAN, INF, -INF], UP, True),  # nothing finite is worse than anything
    ],
)
def test_a_trial_stops_when_its_best_value_is_worse_than_the_median_of_its_peers(
    curve: list[float], direction: Direction, stops: bool
) -> None:
    assert judged(curve, FLAT, direction).stop is stops


def test_a_stop_says_what_was_compared() -> None:
    found = judged([0.1, 0.4, 0.3, 0.2, 0.1])
    assert found == StopDecision(True, found.why, 0.4, 0.5, step=5, peers=3)
    assert found.why == (
        "accuracy was at best 0.4 in 5 reports, below 0.5, the median of the means of "
        "3 succeeded trials over their first 5 reports"
    )


def test_a_trial_without_a_finite_value_is_told_so() -> None:
    found = judged([NAN] * 4, FLAT, DOWN)
    assert (found.value, found.threshold) == (None, 0.5)
    assert found.why.startswith("accuracy had no finite value in 4 reports; the median of")


def test_peers_are_compared_by_what_they_averaged_up_to_the_judged_report() -> None:
    peers = [[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]] * 3
    assert judged([0.35] * 4, peers) == GO_ON  # the peers' mean of four is 0.3
    assert judged([0.35] * 5, peers).threshold == pytest.approx(0.4)


@pytest.mark.parametrize("peers", [[], FLAT[:2], [*FLAT[:2], [NAN] * 9], [*FLAT[:2], []]])
def test_nobody_is_judged_before_enough_peers_have_values(peers: list[list[float]]) -> None:
    assert judged([0.0] * 9, peers) == GO_ON
    assert judged([0.0] * 9, peers, min_trials_required="1").stop is bool(peers)


def test_a_peer_is_none_before_its_first_finite_value() -> None:
    peers = [*FLAT[:2], [NAN, NAN, NAN, NAN, 0.9]]
    assert judged([0.0] * 4, peers) == GO_ON
    assert judged([0.0] * 5, peers).threshold == 0.5


def test_an_even_number_of_peers_has_the_median_between_the_middle_two() -> None:
    peers = [[0.1] * 4, [0.2] * 4, [0.4] * 4, [0.9] * 4]
    assert judged([0.0] * 4, peers).threshold == pytest.approx(0.3)


def test_a_trial_that_equals_all_of_its_peers_goes_on() -> None:
    """The mean of equal values is that value, whatever adding them rounds to."""
    for value in (0.1, 0.7, 1e-320, 1.7e308, 1 / 3):
        for settings in ({}, {"statistic": "mean"}, {"horizon": "start"}):
            peers = [[value] * 7] * 5
            assert judged([value] * 7, peers, UP, **settings) == GO_ON
            assert judged([value] * 7, peers, DOWN, **settings) == GO_ON


def test_a_long_curve_is_compared_with_the_mean_of_its_first_thousand_reports() -> None:
    digest = MedianStop().digest(problem(), [0.0] * MAX_STEPS + [1.0] * MAX_STEPS)
    assert len(digest) == MAX_STEPS
    found = MedianStop().judge(problem(DOWN), [0.1] * (MAX_STEPS + 500), [digest] * 3)
    assert (found.stop, found.threshold) == (True, 0.0)


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_katibs_threshold_is_the_mean_of_the_means_of_the_first_reports(
    direction: Direction,
) -> None:
    """By Katib's own arithmetic, spelt out; its rule counts from its start_step on."""
    peers = [[0.9, 0.7, 0.2, 0.0], [0.5, 0.6, 0.9], [0.1], [0.3, 0.4]]
    averages = [sum(peer[:2]) / len(peer[:2]) for peer in peers]
    about = problem(direction, statistic="mean", horizon="start", start_step="2")
    rule = MedianStop()
    (stamped,) = rule.katib_rules(about, [rule.digest(about, peer) for peer in peers])
    assert stamped.threshold == pytest.approx(statistics.mean(averages))
    assert stamped.comparison is (Comparison.LESS if direction is UP else Comparison.GREATER)
    assert (stamped.metric, stamped.start_step) == ("accuracy", 2)


def test_katibs_horizon_never_looks_past_the_first_reports() -> None:
    peers = [[0.2, 0.2, 0.9, 0.9, 0.9]] * 3
    later = {"start_step": "2", "horizon": "start"}
    assert judged([0.3] * 5, peers, **later) == GO_ON
    assert judged([0.1] * 5, peers, **later).threshold == pytest.approx(0.2)
    assert judged([0.3] * 5, peers, start_step="2").stop


def test_there_is_no_rule_to_stamp_before_enough_trials_have_succeeded() -> None:
    rule = MedianStop()
    digests = [rule.digest(problem(), peer) for peer in FLAT]
    assert list(rule.katib_rules(problem(), digests[:2])) == []
    (stamped,) = rule.katib_rules(problem(), digests)
    assert (stamped.threshold, stamped.start_step) == (0.5, 4)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("start_step", "0", "setting 'start_step' is '0'; it must be an integer >= 1"),
        ("start_step", "two", "setting 'start_step' is 'two'; it must be an integer >= 1"),
        ("min_trials_required", "0.5", "it must be an integer >= 1"),
        ("min_trials_required", "", "it must be an integer >= 1"),
        ("statistic", "Median", "setting 'statistic' is 'Median'; it must be median or mean"),
        ("horizon", "end", "it must be step or start"),
        ("start_steps", "4", "did you mean start_step?"),
        ("surprise", "4", "(known: horizon, min_trials_required, start_step, statistic)"),
    ],
)
def test_a_bad_setting_is_explained(name: str, text: str, sentence: str) -> None:
    (found,) = LocalRules().validate(problem(**{name: text}))
    assert sentence in found
    with pytest.raises(ValueError, match=name):
        LocalRules().judge(problem(**{name: text}), [0.1], [])


def test_katibs_settings_are_valid_and_unset_ones_have_its_defaults() -> None:
    assert list(LocalRules().validate(problem(min_trials_required="3", start_step="4"))) == []
    assert {s.name: s.default for s in MedianStop.settings} == {
        "min_trials_required": 3,
        "start_step": 4,
        "statistic": "median",
        "horizon": "step",
    }


def test_ten_thousand_peers_are_compared_in_milliseconds() -> None:
    """Alone it takes one to two; the limit leaves room for a busy machine."""
    rule = MedianStop()
    digests = [rule.digest(problem(), [(k * 7919 % 10_007) / 10_007] * 60) for k in range(10_000)]
    durations = []
    for _ in range(5):
        began = time.process_time()
        assert rule.judge(problem(), [0.1] * 50, digests).stop
        durations.append(time.process_time() - began)
    assert min(durations) < 0.02
