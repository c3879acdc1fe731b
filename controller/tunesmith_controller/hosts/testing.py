# SPDX-License-Identifier: Apache-2.0
"""The contract suite of the `SuggestionClient` port, for whoever writes an adapter.

    class TestMine(SuggestionClientContract):
        def world(self) -> AbstractAsyncContextManager[SuggestionWorld]: ...

Needs pytest and the test extras of tunesmith_suggestion. Each test is one `asyncio.run`.
"""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.search_space import IntParameter, SearchSpace
from tunesmith_controller.ports import Ask, Endpoint, SearchEnded, Suggested, SuggestionClient
from tunesmith_suggestion.testing import METRIC, SPACE, a_problem

__all__ = ["SuggestionClientContract", "SuggestionWorld", "asks_of_a_search"]

SMALL = SearchSpace((IntParameter("a", 1, 3), IntParameter("b", 1, 2)))


class SuggestionWorld(Protocol):
    """A client, and a service that knows our algorithms behind the endpoint."""

    @property
    def client(self) -> SuggestionClient: ...

    @property
    def endpoint(self) -> Endpoint: ...

    async def lose_memory(self) -> None:
        """Kills the service as roughly as possible; afterwards it answers again."""
        ...


async def asks_of_a_search(
    suggest: Callable[[Ask], Awaitable[Suggested | SearchEnded]], problem: Problem, batches: int
) -> list[tuple[Ask, Suggested]]:
    """A search with two trials in parallel: one ends before each ask, every third one fails."""
    outcomes: list[Outcome] = []
    running: list[Pending] = []
    done: list[tuple[Ask, Suggested]] = []
    for _ in range(batches):
        first = len(outcomes) + len(running)
        history = History(tuple(outcomes), tuple(running))
        ask = Ask(f"{problem.experiment_uid}/{first}/2", problem, history, first, 2)
        answer = await suggest(ask)
        assert isinstance(answer, Suggested)
        done.append((ask, answer))
        for i, texts in enumerate(answer.assignments):
            running.append(Pending(first + i, problem.space.values(texts)))
        while len(running) > 1:
            outcomes.append(_ended(running.pop(0)))
    return done


def _ended(trial: Pending) -> Outcome:
    if trial.ordinal % 3 == 2:
        return Outcome(trial.ordinal, trial.parameters, OutcomeState.FAILED)
    told = {METRIC: float(trial.parameters["lr"]) + trial.ordinal / 100}
    return Outcome(trial.ordinal, trial.parameters, OutcomeState.SUCCEEDED, told)


class SuggestionClientContract:
    """What reconcilers rely on. Subclass it and give `world`."""

    def world(self) -> AbstractAsyncContextManager[SuggestionWorld]:
        raise NotImplementedError("give a fresh world")

    def _run(self, story: Callable[[SuggestionWorld], Awaitable[None]]) -> None:
        async def play() -> None:
            async with self.world() as world:
                await story(world)

        asyncio.run(play())

    def test_one_valid_assignment_an_ordinal(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            ask = Ask("id", a_problem("random"), History(), 0, 5)
            answer = await world.client.suggest(world.endpoint, ask)
            assert isinstance(answer, Suggested)
            assert len(answer.assignments) == 5 and answer.algorithm_version
            assert [SPACE.violations(texts) for texts in answer.assignments] == [[]] * 5
            assert [list(texts) for texts in answer.assignments] == [[p.name for p in SPACE]] * 5

        self._run(story)

    def test_every_ask_may_be_repeated_in_any_order(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            done = await _search(world, a_problem("tpe", settings=_EAGER))
            for ask, answer in reversed(done):
                assert await world.client.suggest(world.endpoint, ask) == answer

        self._run(story)

    def test_a_service_that_loses_its_memory_changes_nothing(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            problem = a_problem("tpe", settings=_EAGER)
            undisturbed = await _search(world, problem)

            async def forgetful(ask: Ask) -> Suggested | SearchEnded:
                if ask.first_ordinal in (4, 6):
                    await world.lose_memory()
                return await world.client.suggest(world.endpoint, ask)

            assert await asks_of_a_search(forgetful, problem, 5) == undisturbed

        self._run(story)

    def test_experiments_do_not_meet(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            one = await _search(world, a_problem("tpe", settings=_EAGER, uid="one"))
            other = await _search(world, a_problem("tpe", settings=_EAGER, uid="two", seed=9))
            assert [a.assignments for _, a in one] != [a.assignments for _, a in other]
            again = await _search(world, a_problem("tpe", settings=_EAGER, uid="three"))
            assert [a.assignments for _, a in one] == [a.assignments for _, a in again]

        self._run(story)

    def test_the_end_of_a_search_has_a_reason(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            problem = a_problem("random", SMALL, settings={"dedupe": "true"})
            first = await world.client.suggest(world.endpoint, Ask("id", problem, History(), 0, 10))
            assert isinstance(first, Suggested) and len(first.assignments) == 6
            tried = tuple(
                Outcome(k, SMALL.values(texts), OutcomeState.SUCCEEDED, {METRIC: 1.0})
                for k, texts in enumerate(first.assignments)
            )
            last = await world.client.suggest(
                world.endpoint, Ask("id2", problem, History(tried), 6, 1)
            )
            assert last == SearchEnded("all 6 points of the search space were tried")

        self._run(story)

    def test_a_valid_problem_has_no_problems(self) -> None:
        async def story(world: SuggestionWorld) -> None:
            assert list(await world.client.validate(world.endpoint, a_problem("tpe"))) == []

        self._run(story)

    @pytest.mark.parametrize(
        ("algorithm", "settings", "words"),
        [
            ("tpe", {"gamma": "7"}, ("'gamma'", "'7'", "> 0 and < 1")),
            ("random", {"n_trials": "7"}, ("'n_trials'", "random_state")),
            ("annealing", {}, ("'annealing'", "random", "tpe")),
        ],
    )
    def test_a_bad_problem_is_told_by_validate_and_refused_by_suggest(
        self, algorithm: str, settings: Mapping[str, str], words: tuple[str, ...]
    ) -> None:
        async def story(world: SuggestionWorld) -> None:
            problem = a_problem(algorithm, settings=settings)
            (found,) = await world.client.validate(world.endpoint, problem)
            with pytest.raises(Invalid) as refused:
                await world.client.suggest(world.endpoint, Ask("id", problem, History(), 0, 1))
            assert all(word in found and word in str(refused.value) for word in words)

        self._run(story)


_EAGER = {"n_startup_trials": "3"}


async def _search(world: SuggestionWorld, problem: Problem) -> list[tuple[Ask, Suggested]]:
    async def suggest(ask: Ask) -> Suggested | SearchEnded:
        return await world.client.suggest(world.endpoint, ask)

    return await asks_of_a_search(suggest, problem, 5)
