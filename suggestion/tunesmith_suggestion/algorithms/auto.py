# SPDX-License-Identifier: Apache-2.0
"""`auto`: tunesmith chooses, by the size of the space and by how many results there are.

- Fewer results than `MOST_FOR_A_PROCESS`: `bayesianoptimization`, whose points are the best at
  small and middle budgets, alone and in parallel (docs/algorithms.md has the figures).
- More: `multivariate-tpe`, whose cost does not grow, over the same history.
- A finite space ends when every point was tried, whatever the budget: a repeat teaches nothing
  that a better use of the machine would not.

The choice depends on the history of the request alone, so a restart makes the same one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.settings import RANDOM_STATE, Setting, setting_problems
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.unseen import Tried

MOST_FOR_A_PROCESS: Final = 1000
"""Results up to which a Gaussian process uses all of them; beyond, it would see a part."""
_MOST_COUNTED: Final = 100_000
"""Spaces with more points are not watched for their end: no budget reaches it."""


def _bayesian() -> Algorithm:
    from tunesmith_suggestion.algorithms.bayesian import BayesianOptimization  # noqa: PLC0415

    return BayesianOptimization()


def _tpe() -> Algorithm:
    from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe  # noqa: PLC0415

    return MultivariateTpe()


class Auto:
    """The choice among our algorithms for who does not want to choose."""

    name = "auto"
    settings: Sequence[Setting] = (RANDOM_STATE,)

    def __init__(
        self,
        few: Callable[[], Algorithm] = _bayesian,
        many: Callable[[], Algorithm] = _tpe,
        *,
        most_for_few: int = MOST_FOR_A_PROCESS,
    ) -> None:
        self._make_few = few
        self._make_many = many
        self._most_for_few = most_for_few
        self._tried = Tried()

    @cached_property
    def _few(self) -> Algorithm:
        return self._make_few()

    @cached_property
    def _many(self) -> Algorithm:
        return self._make_many()

    @property
    def version(self) -> str:
        return f"1+{self._few.version}+{self._many.version}"

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            compile_space(problem.space)
        except SpaceError as error:
            return [*problems, str(error)]
        if problems:
            return problems
        chosen = self.choice(History())
        return [
            f"{self.name} would use {chosen.name}: {problem_}"
            for problem_ in chosen.validate(_handed(problem, chosen))
        ]

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        left = self._untried(problem, history)
        if left == 0:
            return Exhausted("all points of the search space were tried")
        asked = ordinals if left is None else ordinals[:left]
        chosen = self.choice(history)
        found = chosen.suggest(
            _handed(problem, chosen), history, asked, _recorded_by(chosen, recorded)
        )
        if isinstance(found, Exhausted) or not found.recorded:
            return found
        return replace(found, recorded=json.dumps({"by": chosen.name, "was": found.recorded}))

    def choice(self, history: History) -> Algorithm:
        """Who proposes after this history."""
        return self._few if len(history.outcomes) <= self._most_for_few else self._many

    def _untried(self, problem: Problem, history: History) -> int | None:
        """How many points of a finite space neither ended nor run; None where it has no end."""
        space = compile_space(problem.space)
        if space.count is None or space.count > _MOST_COUNTED:
            return None
        return space.count - len(self._tried.of(problem, history, space))


def _handed(problem: Problem, chosen: Algorithm) -> Problem:
    """The same problem for the one chosen, which shall not repeat points if it could."""
    once = {"dedupe": "true"} if any(s.name == "dedupe" for s in chosen.settings) else {}
    return replace(problem, algorithm=chosen.name, settings={**problem.settings, **once})


def _recorded_by(chosen: Algorithm, recorded: str) -> str:
    """What this algorithm recorded; nothing where another one did, or something else is there."""
    try:
        found = json.loads(recorded) if recorded else None
    except ValueError:
        return ""
    if not isinstance(found, Mapping) or found.get("by") != chosen.name:
        return ""
    was = found.get("was")
    return was if isinstance(was, str) else ""
