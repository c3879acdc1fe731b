# SPDX-License-Identifier: Apache-2.0
"""What the other reconcilers need to know of Trials, one by one and together.

`Census` is all that a decision may ask of an experiment's trials; `census` counts it from scratch,
`roster.py` keeps it current at the cost of one trial per change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from tunesmith_api import names
from tunesmith_api.conditions import TrialState, trial_state
from tunesmith_api.metrics import MetricSummary, Strategy
from tunesmith_api.problem import Objective, Outcome, OutcomeState
from tunesmith_api.resources import MetricFigures, Observation, Trial
from tunesmith_api.search_space import SearchSpace
from tunesmith_controller.ports import Json

FINISHED_NAMES = 100
"""How many names of finished trials each status list keeps; counters are exact."""

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
    """One Trial. `values` are its finite metrics by each metric's strategy; `figures` are name,
    min, max, latest of each observed metric; `held` while parallelism has no place for it."""

    ordinal: int
    name: str
    uid: str
    state: TrialState
    attempt: int
    parameters: Mapping[str, str]
    values: Mapping[str, float]
    figures: tuple[tuple[str, str, str, str], ...] | None = None
    held: bool = False

    @property
    def observation(self) -> Observation | None:
        if self.figures is None:
            return None
        return Observation(
            metrics=tuple(
                MetricFigures(name=name, min=low, max=high, latest=latest)
                for name, low, high, latest in self.figures
            )
        )

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
    annotations = trial.metadata.annotations or {}
    ordinal = annotations.get(names.ANNOTATION_ORDINAL, "")
    if not ordinal.isdecimal():
        raise ValueError(
            f"Trial {trial.metadata.name} has no {names.ANNOTATION_ORDINAL} annotation"
        )
    observation = trial.status.observation
    return TrialFacts(
        ordinal=int(ordinal),
        name=trial.metadata.name,
        uid=trial.metadata.uid,
        state=trial_state(trial.status.conditions),
        attempt=trial.status.run.attempt if trial.status.run else 0,
        parameters={p.name: p.value for p in trial.spec.parameter_assignments},
        values=_values(trial),
        figures=None
        if observation is None
        else tuple((m.name, m.min, m.max, m.latest) for m in observation.metrics),
        held=annotations.get(names.ANNOTATION_PAUSED) == "true",
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


class Told:
    """What algorithms are told of ended trials, each made once, in the order of ordinals."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome | None] = []
        self._unread: dict[int, TrialFacts] = {}

    def put(self, facts: TrialFacts) -> None:
        """A trial that has ended. It is read when somebody asks: that needs the space."""
        self._unread[facts.ordinal] = facts

    def drop(self, ordinal: int) -> None:
        """A trial that is gone."""
        self._unread.pop(ordinal, None)
        if ordinal < len(self._outcomes):
            self._outcomes[ordinal] = None

    def below(self, first: int, space: SearchSpace) -> list[Outcome | None]:
        """A copy: the outcome of each ordinal below `first`, None where there is none."""
        for ordinal, facts in self._unread.items():
            missing = ordinal + 1 - len(self._outcomes)
            self._outcomes.extend([None] * missing)
            self._outcomes[ordinal] = facts.outcome(space)
        self._unread.clear()
        found = self._outcomes[:first]
        return found + [None] * (first - len(found))


@dataclass(frozen=True, slots=True)
class Census:
    """All trials of an experiment.

    `active` are those that have not ended, in ordinal order; `recent` are the newest ordinals that
    ended, by state, ascending; `best` is the incumbent. `by_ordinal` and `told` may be views of
    something that goes on changing: decisions read them and keep nothing.
    """

    by_ordinal: Mapping[int, TrialFacts]
    counts: Mapping[TrialState, int]
    active: tuple[TrialFacts, ...]
    recent: Mapping[TrialState, Sequence[int]]
    best: TrialFacts | None
    told: Told = field(compare=False)

    def __len__(self) -> int:
        return len(self.by_ordinal)

    def count(self, *states: TrialState) -> int:
        return sum(self.counts.get(state, 0) for state in states)

    def names(self, *states: TrialState) -> tuple[str, ...]:
        """Of states that end: the newest. Of others: all."""
        ended = [self.by_ordinal[o].name for state in states for o in self.recent.get(state, ())]
        active = [f.name for state in states for f in self.active if f.state is state]
        return (*ended, *active)


def census(trials: Iterable[TrialFacts], objective: Objective) -> Census:
    """Counts everything; of two trials with one ordinal the first counts."""
    by_ordinal: dict[int, TrialFacts] = {}
    for facts in trials:
        by_ordinal.setdefault(facts.ordinal, facts)
    counts: dict[TrialState, int] = {}
    ended: dict[TrialState, list[int]] = {}
    told = Told()
    for ordinal, facts in sorted(by_ordinal.items()):
        counts[facts.state] = counts.get(facts.state, 0) + 1
        if facts.state.is_terminal:
            ended.setdefault(facts.state, []).append(ordinal)
            told.put(facts)
    active = [facts for _, facts in sorted(by_ordinal.items()) if not facts.state.is_terminal]
    return Census(
        by_ordinal=by_ordinal,
        counts=counts,
        active=tuple(active),
        recent={state: ordinals[-FINISHED_NAMES:] for state, ordinals in ended.items()},
        best=incumbent(by_ordinal.values(), objective),
        told=told,
    )


def incumbent(trials: Iterable[TrialFacts], objective: Objective) -> TrialFacts | None:
    """The best finite objective, ties to the lowest ordinal."""
    winner: TrialFacts | None = None
    for facts in trials:
        if beats(facts, winner, objective):
            winner = facts
    return winner


def beats(facts: TrialFacts, other: TrialFacts | None, objective: Objective) -> bool:
    """Whether a trial takes the place of an incumbent."""
    value = facts.objective(objective)
    if value is None:
        return False
    theirs = None if other is None else other.objective(objective)
    if other is None or theirs is None:
        return True
    if value == theirs:
        return facts.ordinal < other.ordinal
    return objective.better(value, theirs)


def owned_by(obj: Json, uid: str) -> bool:
    """Whether an owner reference names this uid."""
    references = obj["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == uid for reference in references)
