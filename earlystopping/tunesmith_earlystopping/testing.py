# SPDX-License-Identifier: Apache-2.0
"""The contract suite of `StoppingRule`, for whoever writes one. Needs pytest and hypothesis.

    class TestMine(StoppingRuleContract):
        @pytest.fixture
        def rule(self) -> StoppingRule:
            return Mine()

The suite asserts what the controller relies on: any curve is judged, from the arguments alone, and
quickly. The strategies below are for tests of your own.
"""

# ruff: noqa: S101

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import GO_ON, StopProblem
from tunesmith_earlystopping.protocol import StoppingRule

METRIC = "accuracy"

CHECKED = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def a_problem(
    rule: str,
    direction: Direction = Direction.MAXIMIZE,
    settings: Mapping[str, str] | None = None,
) -> StopProblem:
    return StopProblem(rule, METRIC, direction, dict(settings or {}))


def curves(max_size: int = 12) -> st.SearchStrategy[list[float]]:
    """Values as trials report them: few different ones, huge and tiny ones, NaN and infinities."""
    values = st.sampled_from([0.0, 0.1, 0.1 + 0.2, 0.3, 1.0, math.nan, math.inf]) | st.floats()
    return st.lists(values, max_size=max_size)


def directions() -> st.SearchStrategy[Direction]:
    return st.sampled_from(Direction)


class StoppingRuleContract:
    """What every rule must do. Subclass it and give the fixture `rule`."""

    given_settings: ClassVar[Mapping[str, str]] = {}
    """Settings that the rule cannot do without."""
    max_judge_s = 0.01
    """For one judgement at report 100 against 1,000 peers, in seconds of CPU."""

    @pytest.fixture
    def rule(self) -> StoppingRule:
        raise NotImplementedError("give the rule in a fixture of this name")

    def _problem(
        self, rule: StoppingRule, direction: Direction = Direction.MAXIMIZE
    ) -> StopProblem:
        return a_problem(rule.name, direction, self.given_settings)

    def _digests(
        self, rule: StoppingRule, problem: StopProblem, peers: Sequence[Sequence[float]]
    ) -> list[Sequence[float]]:
        return [digest for peer in peers if (digest := rule.digest(problem, peer))]

    def test_it_has_a_name_and_its_own_settings_are_valid(self, rule: StoppingRule) -> None:
        assert rule.name
        assert list(rule.validate(self._problem(rule))) == []

    def test_an_unknown_setting_is_refused_with_the_known_ones(self, rule: StoppingRule) -> None:
        wrong = {**self.given_settings, "no_such_setting": "1"}
        (sentence,) = rule.validate(a_problem(rule.name, settings=wrong))
        assert "no_such_setting" in sentence
        assert all(setting.name in sentence for setting in rule.settings)

    def test_a_value_of_the_wrong_type_is_refused_by_name(self, rule: StoppingRule) -> None:
        for setting in rule.settings:
            wrong = {**self.given_settings, setting.name: "certainly not"}
            found = rule.validate(a_problem(rule.name, settings=wrong))
            assert any(setting.name in line and "certainly not" in line for line in found)

    def test_the_default_of_every_setting_is_a_value_it_may_have(self, rule: StoppingRule) -> None:
        named = {setting.name: str(setting.default) for setting in rule.settings}
        wanted = {**named, **self.given_settings}
        assert list(rule.validate(a_problem(rule.name, settings=wanted))) == []

    @CHECKED
    @given(curve=curves(), peers=st.lists(curves(), max_size=8), direction=directions())
    def test_any_curve_is_judged_with_a_reason_for_a_stop(
        self,
        rule: StoppingRule,
        curve: list[float],
        peers: list[list[float]],
        direction: Direction,
    ) -> None:
        problem = self._problem(rule, direction)
        digests = self._digests(rule, problem, peers)
        found = rule.judge(problem, curve, digests)
        assert rule.judge(problem, curve, digests) == found
        assert not found.stop or found.why
        assert not found.stop or found.step == len(curve)
        assert found.peers <= len(digests)

    @CHECKED
    @given(data=st.data(), curve=curves(), peers=st.lists(curves(), max_size=8))
    def test_the_order_of_peers_does_not_matter(
        self, rule: StoppingRule, data: st.DataObject, curve: list[float], peers: list[list[float]]
    ) -> None:
        problem = self._problem(rule)
        digests = self._digests(rule, problem, peers)
        shuffled = data.draw(st.permutations(digests))
        assert rule.judge(problem, curve, shuffled) == rule.judge(problem, curve, digests)
        assert list(rule.katib_rules(problem, shuffled)) == list(rule.katib_rules(problem, digests))

    def test_a_trial_that_has_reported_nothing_goes_on(self, rule: StoppingRule) -> None:
        problem = self._problem(rule)
        digests = self._digests(rule, problem, [[1.0] * 50] * 50)
        assert rule.judge(problem, [], digests) == GO_ON

    def test_an_ended_trial_without_values_is_no_peer(self, rule: StoppingRule) -> None:
        problem = self._problem(rule)
        assert not rule.digest(problem, [])
        assert not rule.digest(problem, [math.nan] * 20)

    def test_a_rule_for_foreign_collectors_has_a_finite_threshold(self, rule: StoppingRule) -> None:
        problem = self._problem(rule)
        digests = self._digests(rule, problem, [[0.5] * 50, [0.25] * 50] * 25)
        for stamped in rule.katib_rules(problem, digests):
            assert math.isfinite(stamped.threshold)
            assert stamped.metric and stamped.start_step >= 0

    def test_a_thousand_peers_are_compared_in_time(self, rule: StoppingRule) -> None:
        problem = self._problem(rule)
        digest = rule.digest(problem, [0.5] * 100)
        began = time.process_time()
        for _ in range(10):
            rule.judge(problem, [0.5] * 100, [digest] * 1000)
        assert (time.process_time() - began) / 10 < self.max_judge_s
