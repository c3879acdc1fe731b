# SPDX-License-Identifier: Apache-2.0
"""`grid`: every point of a finite search space once, in a random order.

Points are taken in one order, fixed by the seed; asked for more, it gives the first ones of that
order which nobody tried: neither it nor a person who enqueued points. How a trial ended does not
matter, a failed point is not tried again; a point whose trial was deleted is. The order is made
as far as it is needed (`chance.ordering`), so the size of the space costs nothing; what was made
of it and what the history holds are remembered, so a long search costs what is new.

As in Katib, a double needs a step, and a budget larger than the grid is an error. Unlike Katib's
optuna service, which forgets what it asked when it restarts, it needs no memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError, Value
from tunesmith_suggestion.chance import ordering
from tunesmith_suggestion.settings import (
    RANDOM_STATE,
    Setting,
    SettingType,
    SettingValues,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import CompiledSpace, compile_space
from tunesmith_suggestion.unseen import Tried

_MOST_ORDERS: Final = 16
"""Orders that are remembered as far as they were made, some 100 bytes a point."""
_BLOCK: Final = 256
"""Points of an order that are made at once."""


class GridSearch:
    """Katib's `grid`."""

    name = "grid"
    version = "1"
    settings: Sequence[Setting] = (
        RANDOM_STATE,
        Setting(
            "shuffle",
            SettingType.BOOLEAN,
            True,
            "Try the points in a random order, so that a search cut short has looked everywhere. "
            "false: in the order of the parameters' values, the last parameter changing fastest.",
        ),
    )
    walks = True
    """Asked for the next points, it gives them in one order: see `protocol.walks`."""

    def __init__(self) -> None:
        self._tried = Tried()
        self._orders = lru_cache(maxsize=_MOST_ORDERS)(_Order)

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            space = compile_space(problem.space)
        except SpaceError as error:
            return [*problems, str(error)]
        endless = [axis.name for axis in space.axes if axis.count is None]
        problems += [
            f"parameter {name!r}: feasibleSpace.step: {self.name} needs a step for a double"
            for name in endless
        ]
        most = problem.max_trials
        if space.count is not None and most is not None and most > space.count:
            problems.append(
                f"maxTrialCount is {most}, and the grid has only {space.count} points: "
                f"set maxTrialCount to {space.count} or less, or use smaller steps"
            )
        return problems

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        settings = read_settings(self.name, self.settings, problem.settings)
        space = compile_space(problem.space)
        tried = self._tried.of(problem, history, space)
        untried = _untried(space, tried, self._order(problem, settings, space.count or 0))
        found = tuple(islice(untried, len(ordinals)))
        if not found:
            return Exhausted(f"all {space.count} points of the grid were tried")
        return Proposal(found)

    def _order(self, problem: Problem, settings: SettingValues, count: int) -> Iterable[int]:
        if not settings.flag("shuffle"):
            return range(count)
        given = settings.optional_integer("random_state")
        return self._orders(problem.seed if given is None else given, count)


class _Order:
    """The random order of a seed, remembered as far as it was made. Safe from several threads."""

    def __init__(self, seed: int, count: int) -> None:
        self._rest = ordering(GridSearch.name, GridSearch.version, seed, count)
        self._made: list[int] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        begin = 0
        while block := self._block(begin):
            yield from block
            begin += len(block)

    def _block(self, begin: int) -> list[int]:
        """What is next from there on; nothing at the end."""
        with self._lock:
            if begin == len(self._made):
                self._made += islice(self._rest, _BLOCK)
            return self._made[begin:]


def _untried(
    space: CompiledSpace, tried: frozenset[int], order: Iterable[int]
) -> Iterator[dict[str, Value]]:
    """The points that were not tried, in order."""
    if len(tried) == space.count:
        return
    for index in order:
        if index in tried:
            continue
        values = space.point(index)
        # Where steps are finer than doubles can tell apart, several indices are one value.
        if space.indices([values]) == [index]:
            yield values
