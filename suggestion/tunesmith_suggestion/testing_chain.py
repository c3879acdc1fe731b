# SPDX-License-Identifier: Apache-2.0
"""A whole search in memory, and the same search with a service that is killed again and again.

`AlgorithmContract` runs both and compares them; a lane that tries hundreds of seeds does the same.
Nothing here keeps time or draws chance of its own: all follows from the problem and a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tunesmith_api.problem import (
    Exhausted,
    History,
    Outcome,
    OutcomeState,
    Pending,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import Value
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.space import ChoiceAxis, CompiledSpace, compile_space

Answer = Proposal | Exhausted
Ask = Callable[[Problem, History, range, str], Answer]

_BEST_AT = 0.3
"""Where the made-up loss is least, on every axis."""


@dataclass(frozen=True, slots=True)
class Step:
    """One question of a search and its answer."""

    ordinals: range
    answer: Answer


@dataclass(slots=True)
class _World:
    """The trials of a search: what runs, what ended, what was recorded last."""

    problem: Problem
    space: CompiledSpace
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    running: dict[int, Mapping[str, Value]] = field(default_factory=dict)
    recorded: str = ""
    asked: int = 0

    @property
    def history(self) -> History:
        """As the controller tells it: each part in ordinal order."""
        pending = (Pending(k, self.running[k]) for k in sorted(self.running))
        return History(tuple(self.outcomes[k] for k in sorted(self.outcomes)), tuple(pending))

    def take(self, first: int, answer: Proposal) -> None:
        self.recorded = answer.recorded or self.recorded
        self.running.update(enumerate(answer.assignments, first))
        self.asked = first + len(answer.assignments)

    def end_some(self, chance: np.random.Generator) -> None:
        """Ends one to all of the running trials, in any order."""
        ordinals = list(chance.permutation(sorted(self.running)))
        for k in ordinals[: 1 + int(chance.integers(len(ordinals)))]:
            self.outcomes[int(k)] = _outcome(self.problem, self.space, int(k), self.running.pop(k))


def search(ask: Ask, problem: Problem, *, length: int) -> list[Step]:
    """Asks until `length` trials were proposed or nothing is left; `problem.parallel` run at once.

    Which trials end at a step, and how, depends on the problem's seed, their ordinals and points.
    """
    world = _World(problem, compile_space(problem.space))
    steps: list[Step] = []
    while world.asked < length:
        first, free = world.asked, problem.parallel - len(world.running)
        ordinals = range(first, min(first + free, length))
        answer = ask(problem, world.history, ordinals, world.recorded)
        steps.append(Step(ordinals, answer))
        if isinstance(answer, Exhausted) or not answer.assignments:
            break
        world.take(first, answer)
        world.end_some(generator("testing ends", "1", problem.seed, len(steps)))
    return steps


def killed_at_random(fresh: Callable[[], Algorithm], seed: int) -> Ask:
    """The algorithm in a service that is killed at random: before it was asked, or after it
    answered and before anybody stored the answer, when the same question is asked again."""
    held = [fresh()]
    chance = generator("testing kills", "1", seed, 0)

    def ask(problem: Problem, history: History, ordinals: range, recorded: str) -> Answer:
        fate = int(chance.integers(4))
        if fate == 0:
            held[0] = fresh()
        answer = held[0].suggest(problem, history, ordinals, recorded)
        if fate == 1:
            held[0] = fresh()
            answer = held[0].suggest(problem, history, ordinals, recorded)
        return answer

    return ask


def _outcome(
    problem: Problem, space: CompiledSpace, ordinal: int, values: Mapping[str, Value]
) -> Outcome:
    """Most succeed; every way to end comes up."""
    rare = {2: OutcomeState.FAILED, 5: OutcomeState.EARLY_STOPPED, 9: OutcomeState.KILLED}
    state = rare.get(ordinal % 12, OutcomeState.SUCCEEDED)
    has_value = state in (OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED)
    loss = problem.objective.loss(_distance(space, values))
    return Outcome(ordinal, values, state, {problem.objective.metric: loss} if has_value else {})


def _distance(space: CompiledSpace, values: Mapping[str, Value]) -> float:
    total = 0.0
    for axis in space.axes:
        value = values[axis.name]
        here = axis.index(value) if isinstance(axis, ChoiceAxis) else axis.position(value)
        total += (here - _BEST_AT) ** 2
    return total
