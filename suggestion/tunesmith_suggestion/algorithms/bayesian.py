# SPDX-License-Identifier: Apache-2.0
"""`bayesianoptimization`: the next point is where a Gaussian process expects the most.

After a Sobol design the losses are warped (`gaussian.warping`), a Gaussian process is fitted to
them on a schedule (`gaussian.schedule`, `gaussian.fitting`), and the point of highest expected
improvement is proposed (`gaussian.acquisition`, `gaussian.search`). Running trials and the earlier
points of a batch are believed to turn out as the model expects (`gaussian.posterior`). Integers,
steps and lists are rounded before the kernel sees them (Garrido-Merchán and Hernández-Lobato,
"Dealing with categorical and integer-valued variables in Bayesian optimization with Gaussian
processes", Neurocomputing 380, 2020). A fit is recorded with its batch, and a restart uses the
record (`gaussian.model`). No point is repeated while a finite space has others.

Setting names are those of Katib's service, which is scikit-optimize; its other models (RF, ET,
GBRT) are `forests`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import SpaceError, Value
from tunesmith_suggestion.algorithms.forests import ESTIMATORS, Forests
from tunesmith_suggestion.algorithms.gaussian import acquisition
from tunesmith_suggestion.algorithms.gaussian.model import Models, Told
from tunesmith_suggestion.algorithms.gaussian.posterior import Posterior
from tunesmith_suggestion.algorithms.gaussian.search import Search, Surface
from tunesmith_suggestion.algorithms.sobol import MOST_DIMENSIONS, SobolSearch
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.coordinates import Table, Tables
from tunesmith_suggestion.settings import (
    RANDOM_STATE,
    Setting,
    SettingType,
    SettingValues,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import Floats, compile_space
from tunesmith_suggestion.unseen import Unseen

INITIAL: Final = 5
"""Points of the design where the setting is unset; more did not pay in benchmarks/algorithms."""
_LEAST_TOLD: Final = 2
"""Results without which there is nothing to model."""
_CENTRES: Final = 5
"""Best points near which the search for the next one looks closely."""
_GP: Final = "GP"

ACQUISITIONS: Final[Mapping[str, acquisition.Acquisition]] = {
    "gp_hedge": acquisition.log_expected_improvement,
    "EI": acquisition.log_expected_improvement,
    "EIps": acquisition.log_expected_improvement,
    "PI": acquisition.log_probability_of_improvement,
    "PIps": acquisition.log_probability_of_improvement,
    "LCB": acquisition.lower_confidence_bound,
}

BASE_ESTIMATOR = Setting(
    "base_estimator",
    SettingType.CHOICE,
    _GP,
    "The model: a Gaussian process, or random forests (RF), extremely randomised trees (ET) or "
    'boosted trees (GBRT) of scikit-optimize: pip install "tunesmith[skopt]".',
    choices=(_GP, *ESTIMATORS),
)
INITIAL_POINTS = Setting(
    "n_initial_points",
    SettingType.INTEGER,
    None,
    f"Evenly spread points before the model is used. Unset: {INITIAL} with GP, 10 with the others.",
    at_least=0,
)
ACQ_FUNC = Setting(
    "acq_func",
    SettingType.CHOICE,
    "gp_hedge",
    "What a point promises: expected improvement (EI), its probability (PI), or how low it may be "
    "(LCB). With GP gp_hedge is EI. Run times are not known, so EIps and PIps are EI and PI.",
    choices=tuple(ACQUISITIONS),
)
ACQ_OPTIMIZER = Setting(
    "acq_optimizer",
    SettingType.CHOICE,
    "auto",
    "How the most promising point is found: sampling takes the best of many, lbfgs climbs from "
    "the best ones; auto is lbfgs.",
    choices=("auto", "sampling", "lbfgs"),
)


class BayesianOptimization:
    """Katib's `bayesianoptimization`."""

    name = "bayesianoptimization"
    version = "2"
    settings: Sequence[Setting] = (
        BASE_ESTIMATOR,
        INITIAL_POINTS,
        ACQ_FUNC,
        ACQ_OPTIMIZER,
        RANDOM_STATE,
    )

    def __init__(self) -> None:
        self._tables = Tables()
        self._models = Models()
        self._forests = Forests()

    def validate(self, problem: Problem) -> Sequence[str]:
        problems = setting_problems(self.name, self.settings, problem.settings)
        try:
            compile_space(problem.space)
        except SpaceError as error:
            problems.append(str(error))
        if len(problem.objectives) != 1:
            problems.append(f"{self.name} improves one objective, got {len(problem.objectives)}")
        if len(problem.space) > MOST_DIMENSIONS:
            problems.append(f"{self.name} takes at most {MOST_DIMENSIONS} parameters")
        if not problems and self._read(problem).choice("base_estimator") != _GP:
            problems += self._forests.validate(problem)
        return problems

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        settings = self._read(problem)
        if settings.choice("base_estimator") != _GP:
            return self._forests.suggest(problem, history, ordinals, recorded)
        table = self._tables.of(problem, history, compile_space(problem.space))
        batch = _Batch(_rules(problem, settings), problem, history, table)
        batch.learn(self._models, recorded)
        return Proposal(tuple(batch.next(k) for k in ordinals), batch.record)

    def _read(self, problem: Problem) -> SettingValues:
        return read_settings(self.name, self.settings, problem.settings)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings, read."""

    seed: int
    initial: int
    promise: acquisition.Acquisition
    climb: bool

    def chance(self, ordinal: int) -> np.random.Generator:
        name, version = BayesianOptimization.name, BayesianOptimization.version
        return generator(name, version, self.seed, ordinal)


def _rules(problem: Problem, settings: SettingValues) -> _Rules:
    state = settings.optional_integer("random_state")
    initial = settings.optional_integer("n_initial_points")
    return _Rules(
        seed=problem.seed if state is None else state,
        initial=INITIAL if initial is None else initial,
        promise=ACQUISITIONS[settings.choice("acq_func")],
        climb=settings.choice("acq_optimizer") != "sampling",
    )


class _Batch:
    """The points of one request, each knowing the earlier ones."""

    def __init__(self, rules: _Rules, problem: Problem, history: History, table: Table) -> None:
        self._rules = rules
        self._problem = problem
        self._table = table
        self._coordinates = table.coordinates
        self._rows = self._coordinates.snap(table.rows)
        pending = self._coordinates.snap(table.pending_rows)
        self._unbelieved = list(pending)
        self._begun = int(table.finite.sum()) + len(pending)
        self._seen = {row.tobytes() for row in (*self._rows, *pending)}
        self._history = history
        self._found: list[Mapping[str, Value]] = []
        self._posterior: Posterior | None = None
        self._centres = self._rows[:0]
        self.record = ""

    def learn(self, models: Models, recorded: str) -> None:
        """The model of what is told, from its record if it has one; none of too little."""
        table, known = self._table, ~np.isnan(self._table.losses)
        if int(table.finite.sum()) < _LEAST_TOLD or not self._coordinates.axes:
            return
        told = Told(
            table.ordinals[known],
            self._rows[known],
            table.losses[known],
            table.pending_ordinals,
            self._coordinates.is_choice,
        )
        self._posterior, fit = models.of(told, recorded)
        text = fit.text()
        self.record = "" if text == recorded else text
        self._centres = told.rows[np.argsort(told.losses, kind="stable")[:_CENTRES]]

    def next(self, ordinal: int) -> Mapping[str, Value]:
        chance = self._rules.chance(ordinal)
        if self._posterior is None or self._begun < self._rules.initial:
            values = self._designed(ordinal, chance)
        else:
            values = self._promising(self._believing(self._posterior), chance)
        row = self._row(values)
        self._begun += 1
        self._unbelieved.append(row)
        self._seen.add(row.tobytes())
        self._found.append(values)
        return values

    def _designed(self, ordinal: int, chance: np.random.Generator) -> Mapping[str, Value]:
        """The point of a Sobol sequence; in a finite space it may have come before."""
        problem = replace(self._problem, seed=self._rules.seed, settings={})
        found = SobolSearch().suggest(problem, History(), range(ordinal, ordinal + 1), "")
        if isinstance(found, Exhausted):
            raise RuntimeError(found.reason)
        (values,) = found.assignments
        return values if self._is_new(values) else self._random(chance)

    def _believing(self, posterior: Posterior) -> Posterior:
        """With all that runs believed."""
        for row in self._unbelieved:
            posterior = posterior.believing(row)
        self._unbelieved.clear()
        self._posterior = posterior
        return posterior

    def _promising(self, posterior: Posterior, chance: np.random.Generator) -> Mapping[str, Value]:
        promise, is_choice = self._rules.promise, self._coordinates.is_choice
        surface = Surface(
            lambda rows: posterior.promises(rows, promise),
            lambda rows: posterior.promises_with_slopes(rows, promise, is_choice),
        )
        search = Search(self._coordinates, self._seen)
        for row in search.best(surface, self._centres, chance, climb=self._rules.climb):
            values = self._coordinates.point(row)
            if self._is_new(values):
                return values
        return self._random(chance)

    def _random(self, chance: np.random.Generator) -> Mapping[str, Value]:
        """A point that was not tried, any point where all were. Seldom needed, and a walk over the
        history."""
        unseen = Unseen(self._coordinates.space, self._history)
        for found in self._found:
            unseen.mark(found)
        values = unseen.draw(chance)
        return self._coordinates.space.draw(chance) if values is None else values

    def _is_new(self, values: Mapping[str, Value]) -> bool:
        return self._row(values).tobytes() not in self._seen

    def _row(self, values: Mapping[str, Value]) -> Floats:
        row: Floats = self._coordinates.snap(self._coordinates.rows([values]))[0]
        return row
