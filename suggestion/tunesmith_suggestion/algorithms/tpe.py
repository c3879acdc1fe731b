# SPDX-License-Identifier: Apache-2.0
"""`tpe`: the tree-structured Parzen estimator.

Finished points are split into the best few and the rest; of some candidates drawn from the density
of the best, the one most typical of the best and least of the rest is proposed. Points that failed
and points still running count among the rest, so they repel (constant liar: Ginsbourger, Le
Riche, Carraro 2010); a batch treats its own earlier ordinals as running.

Setting names and ranges are those of Katib's two services for it. Two differences to their
hyperopt, both because they find better points: the axes of a point are drawn jointly, and unless
`gamma` is set a tenth of the trials counts as best (Watanabe, arXiv 2304.11127, compares both).
The numbers are in `parzen`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tunesmith_api.problem import (
    Exhausted,
    History,
    Objective,
    Outcome,
    OutcomeState,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import SpaceError, Value
from tunesmith_suggestion.algorithms.parzen import Floats, cell_edges, fit
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.settings import (
    DEDUPE,
    RANDOM_STATE,
    Setting,
    SettingType,
    SettingValues,
    read_settings,
    setting_problems,
)
from tunesmith_suggestion.space import Axis, ChoiceAxis, CompiledSpace, compile_space
from tunesmith_suggestion.unseen import Unseen

_MOST_BEST = 25
_LEARNT = (OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED)


GAMMA = Setting(
    "gamma",
    SettingType.NUMBER,
    None,
    "How many of n finished trials count as good: min(ceil(gamma * sqrt(n)), 25) as in "
    "Katib. Unset: min(ceil(n / 10), 25), which finds better points.",
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
    "Trials with a result before the model is used; random points until then.",
    at_least=0,
)


class Tpe:
    """Katib's `tpe`. Accepts the setting names of its hyperopt and its optuna service."""

    name = "tpe"
    version = "1"
    settings: Sequence[Setting] = (
        GAMMA,
        PRIOR_WEIGHT,
        CANDIDATES,
        STARTUP,
        RANDOM_STATE,
        DEDUPE,
    )

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
        space = compile_space(problem.space)
        given = settings.optional_integer("random_state")
        seed = problem.seed if given is None else given
        model = _Model(space, settings)
        model.tell(problem.objective, history)
        unseen = Unseen(space, history) if settings.flag("dedupe") else None
        found: list[Mapping[str, Value]] = []
        for k in ordinals:
            values = _propose(model, unseen, generator(self.name, self.version, seed, k))
            if values is None:
                break
            found.append(values)
            model.add(values, math.inf)
            if unseen is not None:
                unseen.mark(values)
        if unseen is not None and not found:
            return Exhausted(unseen.exhausted_reason)
        return Proposal(tuple(found))


def _propose(
    model: _Model, unseen: Unseen | None, chance: np.random.Generator
) -> dict[str, Value] | None:
    if model.is_ready:
        for values in model.candidates(chance):
            if unseen is None or values in unseen:
                return values
    return model.space.draw(chance) if unseen is None else unseen.draw(chance)


class _Model:
    """The points so far, as coordinates in the unit interval, and what to try next.

    `rows` are in ordinal order, columns are the axes with more than one value; the loss of a point
    that repels is infinite.
    """

    def __init__(self, space: CompiledSpace, settings: SettingValues) -> None:
        self.space = space
        self._axes = [axis for axis in space.axes if axis.count != 1]
        self._edges = [cell_edges(axis) for axis in self._axes]
        self._gamma = settings.optional_number("gamma")
        self._prior_weight = settings.number("prior_weight")
        self._candidates = settings.integer("n_EI_candidates")
        self._startup = settings.integer("n_startup_trials")
        self._rows: list[list[float]] = []
        self._losses: list[float] = []

    @property
    def is_ready(self) -> bool:
        """Whether there is something to learn from."""
        finished = sum(math.isfinite(loss) for loss in self._losses)
        return bool(self._axes) and finished >= max(self._startup, 1)

    def tell(self, objective: Objective, history: History) -> None:
        told: list[tuple[int, Mapping[str, Value], float]] = [
            (outcome.ordinal, outcome.parameters, loss)
            for outcome in history.outcomes
            if (loss := _loss(objective, outcome)) is not None
        ]
        told += [(p.ordinal, p.parameters, math.inf) for p in history.pending]
        for _, values, loss in sorted(told, key=lambda entry: entry[0]):
            self.add(values, loss)

    def add(self, values: Mapping[str, Value], loss: float) -> None:
        self._rows.append([_coordinate(axis, values[axis.name]) for axis in self._axes])
        self._losses.append(loss)

    def candidates(self, chance: np.random.Generator) -> Iterator[dict[str, Value]]:
        """Points drawn from the density of the best, the most promising first.

        Promising is l(x) / g(x): maximal where expected improvement is (Bergstra et al. 2011,
        section 4.1).
        """
        best, rest = self._split()
        good = fit(self._axes, self._edges, best, self._prior_weight)
        bad = fit(self._axes, self._edges, rest, self._prior_weight)
        drawn = good.sample(chance.random((self._candidates, 1 + len(self._axes))))
        ratio = good.log_density(drawn) - bad.log_density(drawn)
        fixed = {axis.name: axis.value(0) for axis in self.space.axes if axis.count == 1}
        for i in np.argsort(-ratio, kind="stable"):
            moved = {
                axis.name: _value(axis, float(u))
                for axis, u in zip(self._axes, drawn[i], strict=True)
            }
            values = fixed | moved
            yield {axis.name: values[axis.name] for axis in self.space.axes}

    def _split(self) -> tuple[Floats, Floats]:
        """The best rows and the rest, each in ordinal order."""
        rows, losses = np.array(self._rows), np.array(self._losses)
        finished = int(np.isfinite(losses).sum())
        wanted = finished / 10 if self._gamma is None else self._gamma * math.sqrt(finished)
        count = min(math.ceil(wanted), _MOST_BEST)
        is_best = np.zeros(len(losses), dtype=bool)
        is_best[np.argsort(losses, kind="stable")[:count]] = True
        return rows[is_best], rows[~is_best]


def _loss(objective: Objective, outcome: Outcome) -> float | None:
    """Infinite for a point that repels, None for one that teaches nothing (a killed trial)."""
    value = outcome.values.get(objective.metric)
    if outcome.state in _LEARNT and value is not None:
        return objective.loss(value)
    return None if outcome.state is OutcomeState.KILLED else math.inf


def _coordinate(axis: Axis, value: Value) -> float:
    return float(axis.index(value)) if isinstance(axis, ChoiceAxis) else axis.position(value)


def _value(axis: Axis, coordinate: float) -> Value:
    return axis.value(int(coordinate)) if isinstance(axis, ChoiceAxis) else axis.at(coordinate)
