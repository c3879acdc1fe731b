# SPDX-License-Identifier: Apache-2.0
"""The bench: running trials judged by their experiment's stopping rule, on the newest rows.

Central, so that it works for any collector. A verdict is only asked for here; `decide` records it
before anything is stopped. What is kept of ended peers is a cache of rows that never change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from tunesmith_api.conditions import TrialState
from tunesmith_api.metrics import counted
from tunesmith_api.problem import Objective
from tunesmith_api.problems import objective_of
from tunesmith_api.resources import Experiment, StopRecord, Trial
from tunesmith_controller.ports import ObservationLog, StoppingRules, StopProblem
from tunesmith_controller.trial.facts import TrialFacts
from tunesmith_controller.trial.roster import Rosters

MAX_PEERS = 1_000
"""Ended trials that a running one is compared with: the newest."""
SHARE = 0.1
"""At most this share of a trial's time goes into reading its rows."""


class Bench:
    """Of all experiments of one manager."""

    def __init__(self, log: ObservationLog, rules: StoppingRules, rosters: Rosters) -> None:
        self._log = log
        self._rules = rules
        self._rosters = rosters
        self._digests: dict[str, Sequence[float]] = {}
        self._not_before: dict[str, float] = {}

    async def judge(self, experiment: Experiment, trial: Trial) -> StopRecord | None:
        """The stop that a running attempt has earned, None while it has not. Raises Unavailable."""
        problem = problem_of(experiment)
        uid, run = trial.metadata.uid, trial.status.run
        loop = asyncio.get_running_loop()
        if problem is None or run is None or loop.time() < self._not_before.get(uid, -math.inf):
            return None
        if self._rules.validate(problem):
            # Admission refuses such a rule; an Experiment that came another way does without.
            return None
        began = loop.time()
        curve = await self._curve(uid, run.attempt, problem)
        peers = await self._peers(experiment, problem)
        self._not_before[uid] = loop.time() + (loop.time() - began) / SHARE
        decision = self._rules.judge(problem, curve, peers)
        if not decision.stop:
            return None
        return StopRecord(
            rule=problem.rule,
            metric=problem.metric,
            value=_text(decision.value),
            threshold=_text(decision.threshold),
            step=decision.step,
            peers=decision.peers,
            message=decision.why,
        )

    def forget(self, trial_uid: str) -> None:
        self._digests.pop(trial_uid, None)
        self._not_before.pop(trial_uid, None)

    async def _peers(self, experiment: Experiment, problem: StopProblem) -> list[Sequence[float]]:
        """Digests of the succeeded trials, in ordinal order."""
        digests = []
        for facts in self._succeeded(experiment, objective_of(experiment)):
            digest = self._digests.get(facts.uid)
            if digest is None:
                curve = await self._curve(facts.uid, facts.attempt, problem)
                digest = self._digests[facts.uid] = self._rules.digest(problem, curve)
            if digest:
                digests.append(digest)
        return digests

    def _succeeded(self, experiment: Experiment, objective: Objective) -> list[TrialFacts]:
        trials = self._rosters.of(experiment.metadata.uid, objective).by_ordinal
        ended = [f for f in list(trials.values()) if f.state is TrialState.SUCCEEDED]
        return sorted(ended, key=lambda facts: facts.ordinal)[-MAX_PEERS:]

    async def _curve(self, trial_uid: str, attempt: int, problem: StopProblem) -> list[float]:
        rows = await self._log.rows(trial_uid, attempt, metric=problem.metric)
        return [_number(row.value) for row in counted(rows)]


def problem_of(experiment: Experiment) -> StopProblem | None:
    """The experiment's rule, None when it has none."""
    spec = experiment.spec.early_stopping
    if spec is None or not spec.algorithm_name:
        return None
    objective = objective_of(experiment)
    return StopProblem(
        rule=spec.algorithm_name,
        metric=objective.metric,
        direction=objective.direction,
        settings={s.name: s.value for s in spec.algorithm_settings},
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _text(number: float | None) -> str:
    return "" if number is None else repr(number)
