# SPDX-License-Identifier: Apache-2.0
"""What the other reconcilers need to know of a Trial, read once per resourceVersion.

An experiment looks at all its trials each time one changes; parsing only what changed keeps that
cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tunesmith_api import names
from tunesmith_api.conditions import TrialState, trial_state
from tunesmith_api.metrics import MetricSummary, Strategy
from tunesmith_api.problem import Objective, Outcome, OutcomeState
from tunesmith_api.resources import Observation, Trial
from tunesmith_api.search_space import SearchSpace
from tunesmith_controller.ports import CachedObjects, Json

_OUTCOMES: Mapping[TrialState, OutcomeState] = MappingProxyType(
    {
        TrialState.SUCCEEDED: OutcomeState.SUCCEEDED,
        TrialState.FAILED: OutcomeState.FAILED,
        TrialState.EARLY_STOPPED: OutcomeState.EARLY_STOPPED,
        TrialState.METRICS_UNAVAILABLE: OutcomeState.METRICS_UNAVAILABLE,
        TrialState.KILLED: OutcomeState.KILLED,
    }
)


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """One Trial. `values` are its finite metrics by each metric's strategy."""

    ordinal: int
    name: str
    state: TrialState
    parameters: Mapping[str, str]
    values: Mapping[str, float]
    observation: Observation | None

    def outcome(self, space: SearchSpace) -> Outcome | None:
        """What an algorithm is told; None while the trial has not ended."""
        state = _OUTCOMES.get(self.state)
        if state is None:
            return None
        return Outcome(self.ordinal, space.values(self.parameters), state, self.values)

    def objective(self, objective: Objective) -> float | None:
        return self.values.get(objective.metric)


def facts_of(trial: Trial) -> TrialFacts:
    """Reads a Trial. Raises ValueError when it has no ordinal of ours."""
    ordinal = (trial.metadata.annotations or {}).get(names.ANNOTATION_ORDINAL, "")
    if not ordinal.isdecimal():
        raise ValueError(
            f"Trial {trial.metadata.name} has no {names.ANNOTATION_ORDINAL} annotation"
        )
    return TrialFacts(
        ordinal=int(ordinal),
        name=trial.metadata.name,
        state=trial_state(trial.status.conditions),
        parameters={p.name: p.value for p in trial.spec.parameter_assignments},
        values=_values(trial),
        observation=trial.status.observation,
    )


def _values(trial: Trial) -> dict[str, float]:
    if trial.status.observation is None or trial.spec.objective is None:
        return {}
    strategies = {s.name: s.value for s in trial.spec.objective.metric_strategies}
    found = {}
    for metric in trial.status.observation.metrics:
        summary = MetricSummary(metric.name, metric.min, metric.max, metric.latest)
        figure = summary.figure(Strategy(strategies.get(metric.name, "latest")))
        if figure is not None:
            found[metric.name] = figure
    return found


class FactBook:
    """Facts of cached Trials, remembered by (uid, resourceVersion); only a cache."""

    def __init__(self, cache: CachedObjects) -> None:
        self._cache = cache
        self._known: dict[str, tuple[str, TrialFacts]] = {}

    def trials(self, namespace: str, experiment: str, experiment_uid: str) -> list[TrialFacts]:
        """Facts of the Trials that this very experiment owns, in ordinal order.

        A same-named experiment that was deleted may still have Trials under the label; ownership
        is by uid. Unreadable Trials are left out: they may not stop the others.
        """
        found = []
        for obj in self._cache.of_experiment("Trial", namespace, experiment):
            if owned_by(obj, experiment_uid) and (facts := self._read(obj)) is not None:
                found.append(facts)
        return sorted(found, key=lambda facts: facts.ordinal)

    def _read(self, obj: Json) -> TrialFacts | None:
        metadata = obj["metadata"]
        uid, version = metadata.get("uid", ""), metadata.get("resourceVersion", "")
        known = self._known.get(uid)
        if known is not None and known[0] == version:
            return known[1]
        try:
            facts = facts_of(Trial.parse(obj))
        except ValueError:
            return None
        self._known[uid] = (version, facts)
        return facts

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


def owned_by(obj: Json, uid: str) -> bool:
    """Whether an owner reference names this uid."""
    references = obj["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == uid for reference in references)
