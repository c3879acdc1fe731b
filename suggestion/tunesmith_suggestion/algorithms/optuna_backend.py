# SPDX-License-Identifier: Apache-2.0
"""`backend: optuna` of `tpe` and `multivariate-tpe`: Optuna's TPESampler behind our contract.

Every request makes a study in memory from the history, so an answer depends on the request alone;
each ordinal has a sampler with a seed of its own. Running trials are told as running (Optuna's
constant liar), failed ones as failed, which Optuna's estimator leaves out. That costs more the more
trials there are: about 0.2 ms each.

Optuna sees a list or an evenly stepped range as the number of its value, everything else as
the position in [0, 1] that `space` gives it. So distributions and steps that it lacks work too.
Loaded when first asked for. Called by `tpe`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from tunesmith_api.problem import History, Outcome, OutcomeState, Problem
from tunesmith_api.search_space import Value
from tunesmith_suggestion.algorithms.tpe_model import Rules
from tunesmith_suggestion.algorithms.tpe_search import Stream
from tunesmith_suggestion.coordinates import loss_of
from tunesmith_suggestion.space import Axis, ChoiceAxis, NumberAxis, compile_space

_ASKS: Final = 4
"""How many points an ordinal may be offered; in small spaces Optuna repeats itself."""
_MOST_NUMBERED: Final = 2**31
_MOST_BEST: Final = 25


def missing() -> list[str]:
    """A sentence for the experiment's author where Optuna is not installed."""
    if find_spec("optuna") is not None:
        return []
    return [
        "setting 'backend' is 'optuna', but Optuna is not installed where the algorithm runs; "
        "install it there by: pip install 'tunesmith[optuna]', or leave the setting out"
    ]


@lru_cache(maxsize=1)
def _optuna() -> Any:
    found = import_module("optuna")
    found.logging.set_verbosity(found.logging.WARNING)  # it announces every study
    return found


@dataclass(frozen=True, slots=True)
class Options:
    """What the sampler is made with. `joint`: all parameters of a point are drawn together."""

    rules: Rules
    startup: int
    joint: bool


class OptunaProposer:
    """A `Proposer`. Pre: `missing()` is empty."""

    def __init__(
        self, options: Options, problem: Problem, history: History, stream: Stream
    ) -> None:
        self._options = options
        self._stream = stream
        space = compile_space(problem.space)
        self._axes = [axis for axis in space.axes if axis.count != 1]
        self._fixed = {axis.name: axis.value(0) for axis in space.axes if axis.count == 1}
        self._order = [axis.name for axis in space.axes]
        self._distributions = {axis.name: _distribution(axis) for axis in self._axes}
        self._study = _optuna().create_study()
        for outcome in history.outcomes:
            if outcome.state is not OutcomeState.KILLED:
                self._tell(outcome, loss_of(problem.objective, outcome))
        for pending in history.pending:
            self.took(pending.parameters)

    def offers(self, ordinal: int) -> Iterator[Mapping[str, Value]]:
        seed = int(self._stream.of(ordinal, "/optuna").integers(2**32))
        self._study.sampler = _sampler(self._options, seed)
        for _ in range(_ASKS):
            trial = self._study.ask(self._distributions)
            # Taken back at once: `took` says which offer runs, so that a batch is the same as
            # asking one by one.
            self._study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            found = {axis.name: _value(axis, trial.params[axis.name]) for axis in self._axes}
            values = self._fixed | found
            yield {name: values[name] for name in self._order}

    def took(self, values: Mapping[str, Value]) -> None:
        self._add(values, _optuna().trial.TrialState.RUNNING)

    def _tell(self, outcome: Outcome, loss: float) -> None:
        states = _optuna().trial.TrialState
        if not math.isfinite(loss):
            self._add(outcome.parameters, states.FAIL)
        elif outcome.state is OutcomeState.EARLY_STOPPED:
            # The step is not known; one for all lets Optuna compare the values of stopped trials.
            self._add(outcome.parameters, states.PRUNED, intermediate_values={0: loss})
        else:
            self._add(outcome.parameters, states.COMPLETE, value=loss)

    def _add(self, values: Mapping[str, Value], state: Any, **told: Any) -> None:
        params = {axis.name: _told(axis, values[axis.name]) for axis in self._axes}
        made = _optuna().trial.create_trial(
            state=state, params=params, distributions=self._distributions, **told
        )
        self._study.add_trial(made)


def _sampler(options: Options, seed: int) -> Any:
    rules = options.rules
    asked: dict[str, Any] = {}
    if rules.prior_weight != 1.0:
        asked["prior_weight"] = rules.prior_weight
    if (gamma := rules.gamma) is not None:
        asked["gamma"] = lambda n: min(math.ceil(gamma * math.sqrt(n)), _MOST_BEST)
    with warnings.catch_warnings():
        # Experimental or deprecated in some releases; which ones are supported is ours to know.
        warnings.simplefilter("ignore")
        return _optuna().samplers.TPESampler(
            n_startup_trials=options.startup,
            n_ei_candidates=rules.candidates,
            multivariate=options.joint,
            constant_liar=True,
            seed=seed,
            **asked,
        )


def _is_numbered(axis: Axis) -> bool:
    """Whether the values are numbered, not placed."""
    if axis.count is None or axis.count > _MOST_NUMBERED:
        return False
    return not isinstance(axis, NumberAxis) or not (axis.is_log or axis.bell)


def _distribution(axis: Axis) -> Any:
    distributions = _optuna().distributions
    if not _is_numbered(axis):
        return distributions.FloatDistribution(0.0, 1.0)
    count = axis.count or 1
    if isinstance(axis, ChoiceAxis):
        return distributions.CategoricalDistribution(tuple(range(count)))
    return distributions.IntDistribution(0, count - 1)


def _told(axis: Axis, value: Value) -> float | int:
    if isinstance(axis, ChoiceAxis) or _is_numbered(axis):
        return axis.index(value)
    return axis.position(value)


def _value(axis: Axis, found: float | int) -> Value:
    return axis.value(int(found)) if _is_numbered(axis) else axis.at(float(found))
