# SPDX-License-Identifier: Apache-2.0
"""Which points were proposed before: for `dedupe`, and numbered for grid and auto."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tunesmith_api.problem import History, Outcome, OutcomeState
from tunesmith_api.search_space import DoubleParameter, IntParameter, SearchSpace, Value
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import FEW, GRID, SPACE, a_history, a_problem, all_told
from tunesmith_suggestion.unseen import Tried, Unseen

GRID_SPACE = compile_space(GRID)
PROBLEM = a_problem("grid", GRID)
WHOLE = a_history(GRID, 60, states=tuple(OutcomeState)).outcomes


def numbers(*histories: History, tried: Tried | None = None) -> list[frozenset[int]]:
    tried = tried or Tried()
    return [tried.of(PROBLEM, history, GRID_SPACE) for history in histories]


def from_scratch(history: History) -> frozenset[int]:
    points = [o.parameters for o in history.outcomes] + [p.parameters for p in history.pending]
    return frozenset(GRID_SPACE.indices(points))


def one(x: Value, n: Value = 1) -> History:
    return History((Outcome(0, {"x": x, "n": n}, OutcomeState.KILLED),))


def test_told_and_running_points_are_seen_and_others_are_not() -> None:
    history = a_history(SPACE, 9, states=tuple(OutcomeState), pending=3)
    unseen = Unseen(compile_space(SPACE), history)
    known = [o.parameters for o in history.outcomes] + [p.parameters for p in history.pending]
    assert not any(values in unseen for values in known)
    fresh = unseen.draw(generator("test", "1", 1, 1))
    assert fresh is not None and fresh in unseen
    unseen.mark(fresh)
    assert fresh not in unseen


def test_another_spelling_of_a_value_is_the_same_point() -> None:
    stepped = compile_space(SearchSpace((DoubleParameter("x", 0.0, 1.0, 0.1),)))
    assert {"x": 0.3} not in Unseen(stepped, one(0.1 + 0.2))
    mixed = compile_space(SearchSpace((DoubleParameter("x", -1.0, 1.0), IntParameter("n", 1, 2))))
    unseen = Unseen(mixed, one(-0.0))
    assert {"n": 1, "x": 0.0} not in unseen
    assert {"x": 0.0, "n": 2} in unseen


def test_the_last_unseen_point_is_found_and_then_none() -> None:
    told = all_told(FEW).outcomes
    unseen = Unseen(compile_space(FEW), History((*told[:3], *told[4:])))
    assert unseen.draw(generator("test", "1", 1, 1)) == told[3].parameters
    assert Unseen(compile_space(FEW), History(told)).draw(generator("test", "1", 1, 1)) is None


def test_a_growing_and_a_rewritten_history_are_numbered_as_from_scratch() -> None:
    deleted = tuple(o for o in WHOLE if o.ordinal not in (7, 20))
    changed = (*WHOLE[:5], replace(WHOLE[5], parameters=WHOLE[50].parameters), *WHOLE[6:30])
    parts = [WHOLE[:10], deleted[:25], WHOLE[:30], WHOLE, WHOLE[:5], (), deleted, changed]
    histories = [History(part) for part in parts]
    assert numbers(*histories, tried=Tried()) == [from_scratch(h) for h in histories]


def test_running_points_count_while_they_run() -> None:
    running = a_history(GRID, 20, pending=4)
    ended = History(running.outcomes)
    assert numbers(running, ended) == [from_scratch(running), from_scratch(ended)]


def test_another_experiment_or_space_has_its_own_numbers() -> None:
    tried, few = Tried(), compile_space(FEW)
    tried.of(PROBLEM, History(WHOLE), GRID_SPACE)
    other = replace(PROBLEM, experiment_uid="uid-2")
    assert tried.of(other, History(WHOLE[:3]), GRID_SPACE) == from_scratch(History(WHOLE[:3]))
    assert tried.of(a_problem("grid", FEW), all_told(FEW), few) == frozenset(range(6))
    assert tried.of(PROBLEM, History(WHOLE), GRID_SPACE) == from_scratch(History(WHOLE))


def test_forgetting_an_experiment_changes_nothing() -> None:
    for small in (Tried(most_experiments=2), Tried(most_numbers=100)):
        for told in (40, 50, 60):
            for uid in ("a", "b", "c"):
                problem = replace(PROBLEM, experiment_uid=uid)
                history = History(WHOLE[:told])
                assert small.of(problem, history, GRID_SPACE) == from_scratch(history)


def test_several_threads_get_the_same_numbers() -> None:
    tried = Tried()
    histories = [History(WHOLE[:told]) for told in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda h: tried.of(PROBLEM, h, GRID_SPACE), histories))
    assert found == [from_scratch(history) for history in histories]
