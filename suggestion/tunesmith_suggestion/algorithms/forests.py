# SPDX-License-Identifier: Apache-2.0
"""The models of Katib's `bayesianoptimization` that are not Gaussian processes: RF, ET and GBRT.

Random forests, extremely randomised trees and boosted trees with quantile loss, under the
acquisition functions of scikit-optimize (an optional extra), on positions in [0, 1]. Each ordinal
is one fit: to all that is told, the running trials with the mean loss (Ginsbourger, Le Riche,
Carraro 2010, "constant liar"), failed ones with the worst. Chance is keyed by (seed, ordinal).

Called by `bayesian` when `base_estimator` is not GP, which declares the settings.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_api.search_space import Value
from tunesmith_suggestion.algorithms.sobol import SobolSearch
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.coordinates import Coordinates, Flags, Table, Tables
from tunesmith_suggestion.settings import SettingValues, read_settings
from tunesmith_suggestion.space import Floats, compile_space
from tunesmith_suggestion.unseen import Unseen

ESTIMATORS: Final = ("RF", "ET", "GBRT")
_NAME: Final = "bayesianoptimization-forests"
_VERSION: Final = "1"
_INITIAL: Final = 10
_LEAST_TOLD: Final = 2
_MOST_TOLD: Final = 1000
"""Trials that a model is fitted to: the best half of so many, and the newest."""
_CANDIDATES: Final = 2000
_PLAIN: Final = {"EIps": "EI", "PIps": "PI"}
"""Histories have no durations, so all trials take equally long."""


def _is_installed() -> bool:
    return importlib.util.find_spec("skopt") is not None


class Forests:
    """Safe from several threads. `installed`: whether scikit-optimize can be imported."""

    def __init__(self, installed: Callable[[], bool] = _is_installed) -> None:
        self._installed = installed
        self._tables = Tables()

    def validate(self, problem: Problem) -> Sequence[str]:
        """What keeps these models from being used here, as sentences; the settings are valid."""
        settings = _settings(problem)
        estimator = settings.choice("base_estimator")
        if not self._installed():
            return [
                f"base_estimator {estimator} needs scikit-optimize, which is not installed: "
                "pip install 'tunesmith[skopt]', or set base_estimator to GP"
            ]
        problems: list[str] = []
        if settings.choice("acq_optimizer") == "lbfgs":
            problems.append(
                f"acq_optimizer lbfgs follows slopes, and base_estimator {estimator} has none; "
                "set acq_optimizer to auto or sampling, or base_estimator to GP"
            )
        return problems + defects(estimator)

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        """As `Algorithm.suggest`. Pre: `validate` found nothing."""
        settings = _settings(problem)
        table = self._tables.of(problem, history, compile_space(problem.space))
        given = settings.optional_integer("random_state")
        seed = problem.seed if given is None else given
        initial = settings.optional_integer("n_initial_points")
        search = _Search(
            problem,
            seed,
            _INITIAL if initial is None else initial,
            settings.choice("base_estimator"),
            settings.choice("acq_func"),
            table,
            Unseen(table.coordinates.space, history),
        )
        found: list[Mapping[str, Value]] = []
        for k in ordinals:
            found.append(search.point(k, found))
        return Proposal(tuple(found))


def _settings(problem: Problem) -> SettingValues:
    # Loaded here: that module loads this one when it is asked for a forest.
    from tunesmith_suggestion.algorithms.bayesian import BayesianOptimization  # noqa: PLC0415

    declared = BayesianOptimization.settings
    return read_settings(BayesianOptimization.name, declared, problem.settings)


@dataclass(frozen=True, slots=True)
class _Search:
    """One request. `unseen` is told of the points of its own batch."""

    problem: Problem
    seed: int
    initial: int
    estimator: str
    acquisition: str
    table: Table
    unseen: Unseen

    def point(self, ordinal: int, batch: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
        finite = int(self.table.finite.sum())
        running = len(self.table.pending_ordinals) + len(batch)
        is_ready = finite >= _LEAST_TOLD and finite + running >= self.initial
        if is_ready and self.table.coordinates.axes:
            values = self._modelled(ordinal, batch)
        else:
            values = self._designed(ordinal)
        self.unseen.mark(values)
        return values

    def _designed(self, ordinal: int) -> dict[str, Value]:
        """The points of a Sobol sequence until there is enough to learn from."""
        problem = replace(self.problem, seed=self.seed, settings={})
        found = SobolSearch().suggest(problem, History(), range(ordinal, ordinal + 1), "")
        return {} if isinstance(found, Exhausted) else dict(found.assignments[0])

    def _modelled(self, ordinal: int, batch: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
        """The most promising point; a random new one where that was proposed before."""
        chance = generator(_NAME, _VERSION, self.seed, ordinal)
        coordinates = self.table.coordinates
        rows, losses = _told(self.table, coordinates.rows(batch))
        state = np.random.RandomState(int(chance.integers(1 << 32)))
        optimizer = _optimizer(coordinates, self.estimator, self.acquisition, state)
        flags = coordinates.is_choice
        optimizer.tell([_point(row, flags) for row in rows], [float(loss) for loss in losses])
        values = coordinates.point(np.array([float(x) for x in optimizer.ask()]))
        if values in self.unseen:
            return values
        return self.unseen.draw(chance) or values


def _told(table: Table, batch: Floats) -> tuple[Floats, Floats]:
    """Rows and losses to fit: standardised, since the acquisition functions' constants are."""
    kept = _worth_fitting(table.losses)
    losses = table.losses[kept]
    finite = np.isfinite(losses)
    scale = float(np.abs(losses[finite]).max()) or 1.0
    scaled = losses / scale
    scaled[~finite] = scaled[finite].max()
    scaled = (scaled - scaled.mean()) / (scaled.std() or 1.0)
    rows = table.coordinates.snap(np.concatenate([table.rows[kept], table.pending_rows, batch]))
    return rows, np.concatenate([scaled, np.zeros(len(rows) - len(scaled))])


def _worth_fitting(losses: Floats) -> npt.NDArray[np.intp]:
    """Indices in order, at most `_MOST_TOLD`."""
    taught = np.flatnonzero(~np.isnan(losses))
    if len(taught) <= _MOST_TOLD:
        return taught
    half = _MOST_TOLD // 2
    best = taught[np.argsort(losses[taught], kind="stable")[:half]]
    rest = np.setdiff1d(taught, best)
    return np.sort(np.concatenate([best, rest[-half:]]))


def _point(row: Floats, is_choice: Flags) -> list[float | int]:
    return [
        int(value) if chosen else float(value) for value, chosen in zip(row, is_choice, strict=True)
    ]


def _optimizer(
    coordinates: Coordinates, estimator: str, acquisition: str, state: np.random.RandomState
) -> Any:
    """scikit-optimize's, with nothing told."""
    skopt = import_module("skopt")
    dimensions = [
        skopt.space.Categorical(list(range(axis.count or 0)))
        if is_choice
        else skopt.space.Real(0.0, 1.0)
        for axis, is_choice in zip(coordinates.axes, coordinates.is_choice, strict=True)
    ]
    return skopt.Optimizer(
        dimensions,
        base_estimator=_estimator(estimator, state),
        n_initial_points=0,
        acq_func=_PLAIN.get(acquisition, acquisition),
        acq_optimizer="sampling",
        acq_optimizer_kwargs={"n_points": _CANDIDATES},
        random_state=state,
        avoid_duplicates=False,
    )


def _estimator(name: str, state: np.random.RandomState) -> Any:
    if name != "GBRT":
        return name
    module = import_module("tunesmith_suggestion.algorithms.forests_boosting")
    return module.boosted_quantiles(int(state.randint(1 << 31)))


@cache
def defects(estimator: str) -> list[str]:
    """Why a model cannot be used with the installed packages; found by fitting it once."""
    try:
        made = import_module("skopt").Optimizer(
            [(0.0, 1.0)],
            base_estimator=_estimator(estimator, np.random.RandomState(1)),
            n_initial_points=0,
            acq_optimizer="sampling",
            acq_optimizer_kwargs={"n_points": 10},
            random_state=1,
        )
        made.tell([[i / 10] for i in range(10)], [i / 10 for i in range(10)])
        made.ask()
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        installed = ", ".join(
            f"{name} {version(name)}" for name in ("scikit-optimize", "scikit-learn", "numpy")
        )
        return [
            f"base_estimator {estimator} does not work with the installed {installed} "
            f"({type(error).__name__}: {str(error)[:200]}); set base_estimator to GP"
        ]
    return []
