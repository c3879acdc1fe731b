# SPDX-License-Identifier: Apache-2.0
"""`AlgorithmContract` fails for algorithms with a defect: each of these has one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping

import pytest

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import Value
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import SPACE, AlgorithmContract

Answer = Proposal | Exhausted


class Counts(RandomSearch):
    """Draws by the number of its calls."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def suggest(self, problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        first = 1000 * next(self._calls)
        return super().suggest(problem, history, range(first, first + len(ordinals)), recorded)


class Cumulates(RandomSearch):
    """Keeps the lowest ordinal it ever saw: right until it is started again."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._lock = threading.Lock()

    def suggest(self, problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        with self._lock:
            first = self._first.setdefault(problem.seed, ordinals.start)
        shifted = range(ordinals.start + first, ordinals.stop + first)
        return super().suggest(problem, history, shifted, recorded)


class Drawn(RandomSearch):
    """Random search by another stream."""

    def suggest(self, problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        return Proposal(tuple(self.point(problem, history, k) for k in ordinals))

    def point(self, problem: Problem, history: History, k: int) -> Mapping[str, Value]:
        chance = generator(self.stream(problem, history), "1", problem.seed, k)
        return compile_space(problem.space).draw(chance)

    def stream(self, problem: Problem, history: History) -> str:
        return "drawn"


class KnowsTheName(Drawn):
    def stream(self, problem: Problem, history: History) -> str:
        return problem.experiment_name


class KnowsTheSign(Drawn):
    def stream(self, problem: Problem, history: History) -> str:
        return str(sum(value for o in history.outcomes for value in o.values.values()))


class RepeatsItself(Drawn):
    def point(self, problem: Problem, history: History, k: int) -> Mapping[str, Value]:
        return super().point(problem, history, k // 2)


class NeedsAllOrdinals(Drawn):
    def point(self, problem: Problem, history: History, k: int) -> Mapping[str, Value]:
        assert [o.ordinal for o in history.outcomes] == list(range(len(history.outcomes)))
        return super().point(problem, history, k)


class Overflows(Drawn):
    def stream(self, problem: Problem, history: History) -> str:
        losses = [value for o in history.outcomes for value in o.values.values()]
        return str(int(2.0 * max(losses, default=0.0)))


class RecordsMuch(Drawn):
    def suggest(self, problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        found = super().suggest(problem, history, ordinals, recorded)
        assert isinstance(found, Proposal)
        return Proposal(found.assignments, '"' + "x" * 50 * len(history.outcomes) + '"')


class IgnoresRandomState(Drawn):
    """Declares it, as random search does."""


CONTRACT = AlgorithmContract()


@pytest.mark.parametrize(
    ("algorithm", "test"),
    [
        (Counts, "test_another_instance_gives_the_same_answer"),
        (Counts, "test_several_threads_get_the_same_answer"),
        (KnowsTheName, "test_the_name_of_the_experiment_changes_nothing"),
        (KnowsTheSign, "test_maximising_is_minimising_the_negative"),
        (NeedsAllOrdinals, "test_gaps_and_pending_trials_anywhere_are_fine"),
        (RecordsMuch, "test_what_it_records_is_little_and_json"),
        (IgnoresRandomState, "test_random_state_takes_the_place_of_the_seed"),
        (Drawn, "test_dedupe_gives_every_point_once_and_ends"),
    ],
)
def test_a_defect_fails_its_test(algorithm: type[RandomSearch], test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(CONTRACT, test)(algorithm())


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("algorithm", [Counts, Cumulates])
def test_memory_fails_the_searches_that_are_killed(
    algorithm: type[RandomSearch], parallel: int
) -> None:
    run = CONTRACT.test_a_search_killed_at_random_moments_equals_the_undisturbed_one
    with pytest.raises(AssertionError):
        run(algorithm(), parallel)
    run(Drawn(), parallel)


def test_points_twice_in_a_batch_and_overflows_fail() -> None:
    with pytest.raises(AssertionError):
        CONTRACT.test_the_points_of_a_large_batch_are_all_different(RepeatsItself(), 0)
    with pytest.raises(OverflowError):
        CONTRACT.test_objectives_of_any_size_give_points(Overflows(), 1e308)


def test_a_slow_algorithm_fails_its_bounds() -> None:
    class Strict(AlgorithmContract):
        max_cpu_s_at_most = 0.0
        most_trials = 10

    with pytest.raises(AssertionError):
        Strict().test_a_very_long_history_is_answered_in_time(RandomSearch())
    assert Strict.space is SPACE
