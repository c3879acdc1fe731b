# SPDX-License-Identifier: Apache-2.0
"""`auto` chooses by the history, hands each algorithm its own record, and ends finite spaces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import IntParameter, ListParameter, SearchSpace, Value
from tunesmith_suggestion.algorithms.auto import MOST_FOR_A_PROCESS, Auto
from tunesmith_suggestion.settings import DEDUPE, RANDOM_STATE, Setting
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import SPACE, a_history, a_problem, all_told, proposed

SMALL = SearchSpace((IntParameter("x", 1, 4), ListParameter("c", ("a", "b", "c"))))


@dataclass
class Chosen:
    """An algorithm that remembers what it was handed."""

    name: str
    version: str = "1"
    settings: Sequence[Setting] = (RANDOM_STATE, DEDUPE)
    handed: list[tuple[Problem, str]] = field(default_factory=list)

    def validate(self, problem: Problem) -> Sequence[str]:
        return []

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        self.handed.append((problem, recorded))
        space = compile_space(problem.space)
        points: tuple[Mapping[str, Value], ...] = tuple(space.point(0) for _ in ordinals)
        return Proposal(points, recorded=f"{self.name} at {ordinals.start}")


@pytest.fixture
def few() -> Chosen:
    return Chosen("few", settings=(RANDOM_STATE,))


@pytest.fixture
def many() -> Chosen:
    return Chosen("many")


@pytest.fixture
def auto(few: Chosen, many: Chosen) -> Auto:
    return Auto(lambda: few, lambda: many)


def ask(auto: Auto, told: int, recorded: str = "") -> Proposal:
    found = auto.suggest(
        a_problem("auto", LARGE), a_history(LARGE, told), range(told, told + 1), recorded
    )
    assert isinstance(found, Proposal)
    return found


LARGE = SearchSpace((IntParameter("x", 1, 10**6),))


def test_another_algorithm_takes_over_where_there_are_many_results(
    auto: Auto, few: Chosen, many: Chosen
) -> None:
    ask(auto, MOST_FOR_A_PROCESS)
    assert (len(few.handed), len(many.handed)) == (1, 0)
    ask(auto, MOST_FOR_A_PROCESS + 1)
    assert (len(few.handed), len(many.handed)) == (1, 1)


def test_an_algorithm_gets_back_what_it_recorded_and_nothing_of_another(
    auto: Auto, few: Chosen, many: Chosen
) -> None:
    record = ask(auto, 5).recorded
    ask(auto, 6, record)
    assert few.handed[-1][1] == "few at 5"
    ask(auto, MOST_FOR_A_PROCESS + 1, record)
    assert many.handed[-1][1] == ""


@pytest.mark.parametrize("foreign", ["{", "[]", "1", json.dumps({"by": "few", "was": 3}), '"few"'])
def test_a_record_that_it_did_not_write_is_as_none(auto: Auto, few: Chosen, foreign: str) -> None:
    ask(auto, 5, foreign)
    assert few.handed[-1][1] == ""


def test_the_one_chosen_is_asked_under_its_own_name_and_not_to_repeat_points(
    auto: Auto, few: Chosen, many: Chosen
) -> None:
    ask(auto, 5)
    ask(auto, MOST_FOR_A_PROCESS + 1)
    assert (few.handed[0][0].algorithm, dict(few.handed[0][0].settings)) == ("few", {})
    assert dict(many.handed[0][0].settings) == {"dedupe": "true"}


def test_a_finite_space_ends_when_every_point_was_tried() -> None:
    auto, problem = Auto(), a_problem("auto", SMALL)
    found = proposed(auto, problem, History(), 20)
    assert len({str(SMALL.texts(values)) for values in found}) == len(found) == 12
    ended = auto.suggest(problem, all_told(SMALL), range(12, 13), "")
    assert isinstance(ended, Exhausted) and ended.reason


def test_a_problem_that_the_one_chosen_cannot_solve_names_it() -> None:
    found = Auto().validate(a_problem("auto", SPACE, settings={"gamma": "0.2"}))
    assert len(found) == 1 and "'gamma'" in found[0] and "'auto'" in found[0]
