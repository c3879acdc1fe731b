# SPDX-License-Identifier: Apache-2.0
"""`tpe`: the tree-structured Parzen estimator.

Finished points are split into the best few and the rest; of some candidates drawn from the density
of the best, the one most typical of the best and least of the rest is proposed. Points that failed
and points still running count among the rest, so they repel; a batch treats its own earlier
ordinals as running. The densities are in `parzen`, what is learnt in `tpe_model`, how a batch comes
about in `tpe_search`.

Setting names and ranges are those of Katib's two services for it. Differences to their libraries,
all because they find better points: the axes of a point are drawn jointly, the first points are a
Latin hypercube (McKay, Beckman, Conover, Technometrics 21, 1979), and good points weigh by how good
they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SearchSpace, SpaceError
from tunesmith_suggestion.algorithms import optuna_backend
from tunesmith_suggestion.algorithms.parzen import Columns, columns_of
from tunesmith_suggestion.algorithms.tpe_model import Model, Rules, learn
from tunesmith_suggestion.algorithms.tpe_search import ParzenProposer, Proposer, Search, Stream
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
from tunesmith_suggestion.space import CompiledSpace, compile_space

_ENOUGH: Final = 0.75
"""The share of the startup trials that must have a result. A batch that crosses their number need
not wait for all: what would be learnt from the last ones is less than what random points cost."""

GAMMA = Setting(
    "gamma",
    SettingType.NUMBER,
    None,
    "How many of n finished trials count as good: min(ceil(gamma * sqrt(n)), 25) as in "
    "Katib. Unset: min(ceil(0.15 n), 25), which finds better points.",
    above=0,
    below=1,
)
PRIOR_WEIGHT = Setting(
    "prior_weight",
    SettingType.NUMBER,
    1.0,
    "Weight of the flat prior against one observation; more explores more.",
    above=0,
)
CANDIDATES = Setting(
    "n_EI_candidates",
    SettingType.INTEGER,
    24,
    "Candidates drawn for each proposal.",
    aliases=("n_ei_candidates",),
    above=0,
)
STARTUP = Setting(
    "n_startup_trials",
    SettingType.INTEGER,
    10,
    "Trials before the model is used, evenly spread random points; three quarters of them must "
    "have a result, the others may be running.",
    at_least=0,
)


BACKEND = Setting(
    "backend",
    SettingType.CHOICE,
    "tunesmith",
    "Whose estimator proposes: ours, or Optuna's (slower; needs tunesmith[optuna]).",
    choices=("tunesmith", "optuna"),
)


@dataclass(frozen=True, slots=True)
class _Space:
    """What is derived from a search space alone."""

    compiled: CompiledSpace
    columns: Columns


@lru_cache(maxsize=128)
def _prepared(space: SearchSpace) -> _Space:
    compiled = compile_space(space)
    return _Space(compiled, columns_of(Coordinates(compiled).axes))


class Tpe:
    """Katib's `tpe`. Accepts the setting names of its hyperopt and its optuna service."""

    name = "tpe"
    version = "2"
    settings: Sequence[Setting] = (
        GAMMA,
        PRIOR_WEIGHT,
        CANDIDATES,
        STARTUP,
        RANDOM_STATE,
        DEDUPE,
        BACKEND,
    )
    optuna_is_joint: ClassVar[bool] = False
    """Whether the other backend draws all parameters together."""

    def __init__(self) -> None:
        self._tables = Tables()

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        if not problems:
            settings = read_settings(self.name, self.settings, problem.settings)
            if settings.choice("backend") == "optuna":
                problems += optuna_backend.missing()
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
        space = _prepared(problem.space)
        table = self._tables.of(problem, history, space.compiled)
        given = settings.optional_integer("random_state")
        stream = Stream(self.name, self.version, problem.seed if given is None else given)
        proposer: Proposer
        if settings.choice("backend") == "optuna":
            options = optuna_backend.Options(
                _rules(settings), _startup(settings), self.optuna_is_joint
            )
            proposer = optuna_backend.OptunaProposer(options, problem, history, stream)
        else:
            model = _learnt(space.columns, table, settings)
            proposer = ParzenProposer(model, space.compiled, table, stream, _startup(settings))
        search = Search(space.compiled, table, history, stream, settings.flag("dedupe"))
        return search.batch(proposer, ordinals)


def _startup(settings: SettingValues) -> int:
    return settings.integer("n_startup_trials")


def _rules(settings: SettingValues) -> Rules:
    return Rules(
        settings.optional_number("gamma"),
        settings.number("prior_weight"),
        settings.integer("n_EI_candidates"),
    )


def _learnt(columns: Columns, table: Table, settings: SettingValues) -> Model | None:
    """None while there is too little to learn from."""
    wanted = math.ceil(_ENOUGH * _startup(settings))
    if columns.count == 0 or int(table.finite.sum()) < max(wanted, 1):
        return None
    return learn(columns, table, _rules(settings))
