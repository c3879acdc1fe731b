# SPDX-License-Identifier: Apache-2.0
"""`random`: points drawn from the parameters' distributions, each by its own ordinal.

The point of ordinal k depends on (seed, k) only, however the ordinals were batched. With
`dedupe` it also depends on which points lower ordinals took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError, Value
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.settings import (
    DEDUPE,
    RANDOM_STATE,
    Setting,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.unseen import Unseen


class RandomSearch:
    """Katib's `random`, with hyperopt's setting."""

    name = "random"
    version = "1"
    settings: Sequence[Setting] = (RANDOM_STATE, DEDUPE)

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            compile_space(problem.space)
        except SpaceError as error:
            problems.append(str(error))
        return problems

    def reads_history(self, problem: Problem) -> bool:
        return read_settings(self.name, self.settings, problem.settings).flag("dedupe")

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        settings = read_settings(self.name, self.settings, problem.settings)
        space = compile_space(problem.space)
        given = settings.optional_integer("random_state")
        seed = problem.seed if given is None else given
        if not settings.flag("dedupe"):
            chances = (generator(self.name, self.version, seed, k) for k in ordinals)
            return Proposal(tuple(space.draw(chance) for chance in chances))
        unseen = Unseen(space, history)
        found: list[Mapping[str, Value]] = []
        for k in ordinals:
            values = unseen.draw(generator(self.name, self.version, seed, k))
            if values is None:
                break
            unseen.mark(values)
            found.append(values)
        return Proposal(tuple(found)) if found else Exhausted(unseen.exhausted_reason)
