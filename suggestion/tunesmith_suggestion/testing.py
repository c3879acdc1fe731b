# SPDX-License-Identifier: Apache-2.0
"""The contract suite of `Algorithm`, for whoever writes one. Needs pytest and hypothesis.

    class TestMine(AlgorithmContract):
        @pytest.fixture
        def algorithm(self) -> Algorithm:
            return Mine()

The suite asserts what the controller relies on: valid points, and answers that depend on the
arguments alone, so that a service may be killed at any time. The builders are for tests of your
own. `tunesmith certify` asks similar questions of a service that runs.
"""

# ruff: noqa: S101

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import (
    Direction,
    Exhausted,
    History,
    OutcomeState,
    Pending,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import SearchSpace, Value
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.testing_chain import killed_at_random, search
from tunesmith_suggestion.testing_inputs import (
    FEW,
    GRID,
    METRIC,
    ONE_VALUE_EACH,
    ONE_VALUE_MOSTLY,
    SPACE,
    a_history,
    a_problem,
    all_told,
    irregular_history,
    parameters,
    points,
    proposed,
    search_spaces,
    with_values,
)

__all__ = [
    "CHECKED",
    "FEW",
    "GRID",
    "METRIC",
    "ONE_VALUE_EACH",
    "ONE_VALUE_MOSTLY",
    "SPACE",
    "AlgorithmContract",
    "a_history",
    "a_problem",
    "all_told",
    "irregular_history",
    "parameters",
    "points",
    "proposed",
    "search_spaces",
    "with_values",
]

CHECKED = settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


class AlgorithmContract:
    """What every algorithm must do. Subclass it and give the fixture `algorithm`."""

    splits_batches = True
    """Whether a batch is the same as its ordinals asked one by one, the earlier ones pending."""
    space = SPACE
    """An ordinary search space for the algorithm."""
    max_cpu_s = 0.5
    """For one proposal after 1,000 trials with seven parameters, in seconds of CPU."""
    most_trials = 10_000
    """How long a history must still be answered."""
    max_cpu_s_at_most = 10.0
    """For one proposal after `most_trials`, in seconds of CPU."""
    large_batch = 64
    """As many points of one batch must all be different, where the space has that many."""
    most_recorded_bytes = 4096
    """What it records is stored with every batch, so it must stay small."""
    kill_and_resume_seeds = 5
    """In how many searches the service is killed at random moments."""
    search_length = 24
    """Trials of such a search; enough for the algorithm's model to be in use."""
    irregular_histories = 5
    """How many histories with gaps, in which any ordinal may be pending."""

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        raise NotImplementedError("give the algorithm in a fixture of this name")

    def fresh(self, algorithm: Algorithm) -> Algorithm:
        """Another instance that remembers nothing, as after a restart of the service. Overwrite
        it where the class needs arguments."""
        return type(algorithm)()

    def _problem(
        self, algorithm: Algorithm, *, seed: int = 7, settings: Mapping[str, str] | None = None
    ) -> Problem:
        return a_problem(algorithm.name, self.space, seed=seed, settings=settings)

    def test_it_has_a_name_and_a_version(self, algorithm: Algorithm) -> None:
        assert algorithm.name and algorithm.version

    def test_an_ordinary_problem_is_valid(self, algorithm: Algorithm) -> None:
        assert list(algorithm.validate(self._problem(algorithm))) == []

    @CHECKED
    @given(space=search_spaces(), seed=st.integers(0, 2**63), told=st.integers(0, 20))
    def test_every_proposal_is_a_point_of_the_space(
        self, algorithm: Algorithm, space: SearchSpace, seed: int, told: int
    ) -> None:
        problem = a_problem(algorithm.name, space, seed=seed)
        if algorithm.validate(problem):
            return
        found = proposed(algorithm, problem, a_history(space, told, pending=2), 3)
        assert [space.violations(space.texts(values)) for values in found] == [[]] * len(found)

    def test_the_same_question_has_the_same_answer_whatever_was_asked_between(
        self, algorithm: Algorithm
    ) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 25, pending=2)
        first = proposed(algorithm, problem, history, 3)
        proposed(algorithm, self._problem(algorithm, seed=8), History(), 5)
        assert proposed(algorithm, problem, history, 3) == first

    def test_another_seed_gives_other_points(self, algorithm: Algorithm) -> None:
        answers = {
            str(proposed(algorithm, self._problem(algorithm, seed=seed), History(), 4))
            for seed in range(5)
        }
        assert len(answers) == 5

    @pytest.mark.parametrize("told", [0, 30])
    def test_a_batch_is_the_same_as_asking_one_by_one(
        self, algorithm: Algorithm, told: int
    ) -> None:
        if not self.splits_batches:
            pytest.skip("this algorithm declares that batches matter")
        problem, history = self._problem(algorithm), a_history(self.space, told)
        batch = proposed(algorithm, problem, history, 4)
        pending: tuple[Pending, ...] = ()
        for k, values in enumerate(batch):
            step = proposed(algorithm, problem, History(history.outcomes, pending), 1)
            assert step == (values,)
            pending += (Pending(told + k, values),)

    @pytest.mark.parametrize("states", [(s,) for s in OutcomeState] + [tuple(OutcomeState)])
    def test_trials_that_end_in_any_way_are_learnt_from(
        self, algorithm: Algorithm, states: tuple[OutcomeState, ...]
    ) -> None:
        problem = self._problem(algorithm)
        found = proposed(algorithm, problem, a_history(self.space, 24, states=states), 3)
        assert found
        assert not any(self.space.violations(self.space.texts(values)) for values in found)

    def test_a_constant_objective_gives_finite_points(self, algorithm: Algorithm) -> None:
        history = with_values(a_history(self.space, 30), [0.0])
        found = proposed(algorithm, self._problem(algorithm), history, 3)
        numbers = [v for values in found for v in values.values() if not isinstance(v, str)]
        assert numbers and all(math.isfinite(number) for number in numbers)

    def test_a_thousand_trials_are_answered_in_time(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 1000)
        proposed(algorithm, problem, a_history(self.space, 30), 1)
        began = time.process_time()
        assert len(proposed(algorithm, problem, history, 1)) == 1
        assert time.process_time() - began < self.max_cpu_s

    def test_an_unknown_setting_is_refused_with_the_known_ones(self, algorithm: Algorithm) -> None:
        found = algorithm.validate(self._problem(algorithm, settings={"no_such_setting": "1"}))
        assert len(found) == 1
        assert "no_such_setting" in found[0]
        assert all(setting.name in found[0] for setting in algorithm.settings)

    def test_a_value_of_the_wrong_type_is_refused_by_name(self, algorithm: Algorithm) -> None:
        for setting in algorithm.settings:
            wrong = {setting.name: "certainly not"}
            found = algorithm.validate(self._problem(algorithm, settings=wrong))
            assert any(setting.name in line and "certainly not" in line for line in found)

    def test_what_it_recorded_can_be_handed_back(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 20)
        found = algorithm.suggest(problem, history, range(20, 22), "")
        assert isinstance(found, Proposal)
        later = History(a_history(self.space, 22).outcomes)
        again = algorithm.suggest(problem, later, range(22, 23), found.recorded)
        assert isinstance(again, Proposal) and len(again.assignments) == 1

    # ---- what was recorded ----------------------------------------------------------------------

    def test_what_it_records_is_little_and_json(self, algorithm: Algorithm) -> None:
        for told in (0, 20, 200):
            found = algorithm.suggest(
                self._problem(algorithm), a_history(self.space, told), range(told, told + 1), ""
            )
            assert isinstance(found, Proposal)
            assert len(found.recorded.encode()) <= self.most_recorded_bytes
            assert not found.recorded or json.loads(found.recorded) is not None

    # ---- killed and resumed ---------------------------------------------------------------------

    def test_another_instance_gives_the_same_answer(self, algorithm: Algorithm) -> None:
        problem = self._problem(algorithm)
        proposed(algorithm, problem, a_history(self.space, 20), 2)
        history = a_history(self.space, 40, states=tuple(OutcomeState), pending=3)
        here = proposed(algorithm, problem, history, 4)
        assert proposed(self.fresh(algorithm), problem, history, 4) == here

    @pytest.mark.parametrize("parallel", [1, 4])
    def test_a_search_killed_at_random_moments_equals_the_undisturbed_one(
        self, algorithm: Algorithm, parallel: int
    ) -> None:
        for seed in range(self.kill_and_resume_seeds):
            problem = replace(self._problem(algorithm, seed=seed), parallel=parallel)
            undisturbed = search(algorithm.suggest, problem, length=self.search_length)
            killed = killed_at_random(lambda: self.fresh(algorithm), seed)
            assert search(killed, problem, length=self.search_length) == undisturbed, seed

    def test_several_threads_get_the_same_answer(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 25, pending=2)
        want = proposed(self.fresh(algorithm), problem, history, 2)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(proposed, algorithm, problem, history, 2) for _ in range(8)]
        assert [answer.result() for answer in asked] == [want] * 8

    # ---- what an answer depends on --------------------------------------------------------------

    def test_the_name_of_the_experiment_changes_nothing(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 25)
        other = replace(problem, experiment_uid="uid-2", experiment_name="other")
        found = proposed(algorithm, problem, history, 2)
        assert proposed(algorithm, other, history, 2) == found

    def test_maximising_is_minimising_the_negative(self, algorithm: Algorithm) -> None:
        down = a_history(self.space, 30)
        up = with_values(down, [-o.values[METRIC] for o in down.outcomes])
        found = proposed(algorithm, self._problem(algorithm), down, 2)
        maximising = a_problem(algorithm.name, self.space, direction=Direction.MAXIMIZE)
        assert proposed(algorithm, maximising, up, 2) == found

    def test_random_state_takes_the_place_of_the_seed(self, algorithm: Algorithm) -> None:
        if "random_state" not in {setting.name for setting in algorithm.settings}:
            pytest.skip("this algorithm has no random_state")
        answers = [
            proposed(
                algorithm,
                self._problem(algorithm, seed=seed, settings={"random_state": state}),
                History(),
                4,
            )
            for seed, state in ((1, "5"), (2, "5"), (1, "6"))
        ]
        assert answers[0] == answers[1] != answers[2]

    def test_a_default_written_out_changes_nothing(self, algorithm: Algorithm) -> None:
        history = a_history(self.space, 25)
        want = proposed(algorithm, self._problem(algorithm), history, 2)
        for setting in algorithm.settings:
            if setting.default is None:
                continue
            text = str(setting.default)
            written = {setting.name: text.lower() if isinstance(setting.default, bool) else text}
            problem = self._problem(algorithm, settings=written)
            assert list(algorithm.validate(problem)) == [], written
            assert proposed(algorithm, problem, history, 2) == want, written

    # ---- histories ------------------------------------------------------------------------------

    def test_gaps_and_pending_trials_anywhere_are_fine(self, algorithm: Algorithm) -> None:
        for seed in range(self.irregular_histories):
            problem, history = self._problem(algorithm), irregular_history(self.space, seed)
            found = algorithm.suggest(problem, history, range(100, 103), "")
            assert isinstance(found, Proposal) and len(found.assignments) == 3
            self._assert_points(self.space, found.assignments)
            assert self.fresh(algorithm).suggest(problem, history, range(100, 103), "") == found

    @pytest.mark.parametrize("value", [1e308, -1e308, 5e-324])
    def test_objectives_of_any_size_give_points(self, algorithm: Algorithm, value: float) -> None:
        history = with_values(a_history(self.space, 30), [value, 0.0, 1.0])
        found = proposed(algorithm, self._problem(algorithm), history, 3)
        assert found
        self._assert_points(self.space, found)

    def test_a_very_long_history_is_answered_in_time(self, algorithm: Algorithm) -> None:
        history = a_history(self.space, self.most_trials, states=tuple(OutcomeState))
        proposed(algorithm, self._problem(algorithm), a_history(self.space, 30), 1)
        began = time.process_time()
        assert len(proposed(algorithm, self._problem(algorithm), history, 1)) == 1
        assert time.process_time() - began < self.max_cpu_s_at_most

    @pytest.mark.parametrize("told", [0, 30])
    def test_the_points_of_a_large_batch_are_all_different(
        self, algorithm: Algorithm, told: int
    ) -> None:
        history = a_history(self.space, told)
        found = proposed(algorithm, self._problem(algorithm), history, self.large_batch)
        assert len({str(self.space.texts(values)) for values in found}) == self.large_batch

    # ---- small spaces ---------------------------------------------------------------------------

    def _small(
        self, algorithm: Algorithm, space: SearchSpace, settings: Mapping[str, str] | None = None
    ) -> Problem:
        """The problem; skips the test where the algorithm says that it is not for such a space."""
        problem = a_problem(algorithm.name, space, settings=settings)
        if refused := algorithm.validate(problem):
            pytest.skip(refused[0])
        return problem

    @pytest.mark.parametrize("space", [ONE_VALUE_EACH, ONE_VALUE_MOSTLY])
    @pytest.mark.parametrize("told", [0, 30])
    def test_parameters_with_one_value_are_kept(
        self, algorithm: Algorithm, space: SearchSpace, told: int
    ) -> None:
        problem = self._small(algorithm, space)
        history = a_history(space, told, states=tuple(OutcomeState))
        self._assert_points(space, proposed(algorithm, problem, history, 3))

    def test_a_space_that_is_used_up_ends_the_search_or_gives_points_again(
        self, algorithm: Algorithm
    ) -> None:
        found = algorithm.suggest(self._small(algorithm, FEW), all_told(FEW), range(6, 9), "")
        if isinstance(found, Exhausted):
            assert found.reason
        else:
            assert found.assignments
            self._assert_points(FEW, found.assignments)

    def test_more_points_than_there_are_may_be_asked_for(self, algorithm: Algorithm) -> None:
        found = proposed(algorithm, self._small(algorithm, FEW), History(), 10)
        assert 0 < len(found) <= 10
        self._assert_points(FEW, found)

    def test_dedupe_gives_every_point_once_and_ends(self, algorithm: Algorithm) -> None:
        if "dedupe" not in {setting.name for setting in algorithm.settings}:
            pytest.skip("this algorithm has no dedupe")
        problem = self._small(algorithm, FEW, {"dedupe": "true"})
        found = proposed(algorithm, problem, History(), 10)
        assert len(found) == len({str(values) for values in found}) == 6
        ended = algorithm.suggest(problem, all_told(FEW), range(6, 7), "")
        assert isinstance(ended, Exhausted) and ended.reason

    def _assert_points(self, space: SearchSpace, found: Sequence[Mapping[str, Value]]) -> None:
        assert [space.violations(space.texts(values)) for values in found] == [[]] * len(found)
