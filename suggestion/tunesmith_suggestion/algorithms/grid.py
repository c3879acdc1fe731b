# SPDX-License-Identifier: Apache-2.0
"""`grid`: every point of a finite search space once, in a random order.

Points are taken in one order, fixed by the seed; asked for more, it gives the first ones of that
order which nobody tried: neither it nor a person who enqueued points. How a trial ended does not
matter, a failed point is not tried again; a point whose trial was deleted is. The order is made
as far as it is needed (`chance.ordering`), so the size of the space costs nothing.

As in Katib, a double needs a step, and a budget larger than the grid is an error. Unlike Katib's
optuna service, which forgets what it asked when it restarts, it needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

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
        untried = _untried(space, history, self._order(problem, settings, space.count or 0))
        found = tuple(islice(untried, len(ordinals)))
        if not found:
            return Exhausted(f"all {space.count} points of the grid were tried")
        return Proposal(found)

    def _order(self, problem: Problem, settings: SettingValues, count: int) -> Iterator[int]:
        if not settings.flag("shuffle"):
            return iter(range(count))
        given = settings.optional_integer("random_state")
        seed = problem.seed if given is None else given
        return ordering(self.name, self.version, seed, count)


def _untried(
    space: CompiledSpace, history: History, order: Iterator[int]
) -> Iterator[dict[str, Value]]:
    """The points that history does not hold, in order."""
    tried: list[Mapping[str, Value]] = [o.parameters for o in history.outcomes]
    tried += [p.parameters for p in history.pending]
    seen = set(space.indices(tried))
    if len(seen) == space.count:
        return
    for index in order:
        if index in seen:
            continue
        values = space.point(index)
        # Where steps are finer than doubles can tell apart, several indices are one value.
        if space.indices([values]) == [index]:
            yield values
