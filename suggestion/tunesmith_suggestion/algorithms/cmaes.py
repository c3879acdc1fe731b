# SPDX-License-Identifier: Apache-2.0
"""`cmaes`: the covariance matrix adaptation evolution strategy, for numbers, steps and categories.

Points are drawn from a normal distribution over the unit cube (joint with one categorical
distribution a list), which moves to the better half of every generation. The distribution is a
function of the history (`cmaes_runs`), the draw of ordinal k of (seed, k). A sequential search
is the `cmaes` library's own ask and tell to the last digit.

With trials in parallel, an ordinal that is asked while a generation is unfinished is drawn from
the newest distribution, so more points than the population may come of one; all are learnt from,
a population's worth at a time in ordinal order. Trials that run are not waited for. Failed trials
are worse than all others, killed ones are left out, early-stopped ones count with their value.
Points of other origin count as well, moved near where they are far.

Differences to Katib's two services: a single number or nothing but lists will do, where those
want two numbers; lists, distributions and steps are searched as what they are, where goptuna
ignores distributions and Optuna draws lists at random; `sigma` is a share of every parameter's
range on its scale, so it means the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as version_of
from typing import Final

import numpy as np

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError, Value
from tunesmith_suggestion.algorithms.cmaes_kernel import Distribution
from tunesmith_suggestion.algorithms.cmaes_layout import layout_of
from tunesmith_suggestion.algorithms.cmaes_runs import Folds, Plan, RestartStrategy, told_of
from tunesmith_suggestion.coordinates import Coordinates, Table, Tables
from tunesmith_suggestion.settings import (
    DEDUPE,
    RANDOM_STATE,
    Setting,
    SettingType,
    SettingValues,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.unseen import Unseen

_OWN_VERSION: Final = "1"
_SIGMA: Final = 1 / 6
_ATTEMPTS: Final = 16
"""Draws for a point that was not proposed before, with `dedupe`."""

SIGMA = Setting(
    "sigma",
    SettingType.NUMBER,
    None,
    "Standard deviation of the first points around the middle, as a share of every parameter's "
    "range. Unset or 0: one sixth.",
    at_least=0,
)
RESTARTS = Setting(
    "restart_strategy",
    SettingType.CHOICE,
    RestartStrategy.NONE.value,
    "Starting again at random places when a search is stuck: ipop with twice the population "
    "each time, bipop with large and small populations in turn.",
    choices=tuple(RestartStrategy),
)


class CmaEs:
    """Katib's `cmaes`, with the setting names of its two services."""

    name = "cmaes"
    settings: Sequence[Setting] = (SIGMA, RESTARTS, RANDOM_STATE, DEDUPE)

    def __init__(self) -> None:
        self._tables = Tables()
        self._folds = Folds()

    @cached_property
    def version(self) -> str:
        """Ours and the library's: another release of it may give other points."""
        return f"{_OWN_VERSION}+cmaes-{version_of('cmaes')}"

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            compile_space(problem.space)
        except SpaceError as error:
            problems.append(str(error))
        if len(problem.objectives) != 1:
            problems.append(f"{self.name} improves one objective, got {len(problem.objectives)}")
        return problems

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        settings = read_settings(self.name, self.settings, problem.settings)
        plan = _plan(problem, settings)
        table = self._tables.of(problem, history, compile_space(problem.space))
        draws = _Draws(plan, table.coordinates, self._distribution(problem, plan, table))
        if not settings.flag("dedupe"):
            return Proposal(tuple(draws.point(k) for k in ordinals))
        unseen = Unseen(table.coordinates.space, history)
        found: list[Mapping[str, Value]] = []
        for k in ordinals:
            values = draws.unseen_point(k, unseen)
            if values is None:
                break
            unseen.mark(values)
            found.append(values)
        return Proposal(tuple(found)) if found else Exhausted(unseen.exhausted_reason)

    def _distribution(self, problem: Problem, plan: Plan, table: Table) -> Distribution | None:
        """For the caller alone; None in a space of one point."""
        if not table.coordinates.axes:
            return None
        layout = layout_of(table.coordinates)
        key = (problem.experiment_uid, problem.space, plan)
        return self._folds.state(key, plan, layout, told_of(table)).distribution.copied()


@dataclass(frozen=True, slots=True)
class _Draws:
    """Points by ordinal, all from one distribution. Lives for one request."""

    plan: Plan
    coordinates: Coordinates
    distribution: Distribution | None

    def point(self, ordinal: int) -> dict[str, Value]:
        return self._drawn(self.plan.seed_of(ordinal))

    def unseen_point(self, ordinal: int, unseen: Unseen) -> dict[str, Value] | None:
        """The first of some draws that was not proposed before, else a random such point."""
        for seed in self.plan.seeds_of(ordinal, _ATTEMPTS):
            values = self._drawn(seed)
            if values in unseen:
                return values
        return unseen.draw(self.plan.chance(ordinal))

    def _drawn(self, seed: int) -> dict[str, Value]:
        row = np.empty(0) if self.distribution is None else self.distribution.row(seed)
        return self.coordinates.point(row)


def _plan(problem: Problem, settings: SettingValues) -> Plan:
    given = settings.optional_integer("random_state")
    return Plan(
        CmaEs.name,
        _OWN_VERSION,
        problem.seed if given is None else given,
        settings.optional_number("sigma") or _SIGMA,
        RestartStrategy(settings.choice("restart_strategy")),
    )
