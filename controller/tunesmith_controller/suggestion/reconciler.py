# SPDX-License-Identifier: Apache-2.0
"""Suggestions: observe, decide, apply. Remote calls run as requests; no worker waits for them."""

from __future__ import annotations

from tunesmith_api.conditions import SuggestionState, experiment_state, find, suggestion_state
from tunesmith_api.problem import Problem
from tunesmith_api.problems import problem_of
from tunesmith_api.resources import Experiment, Suggestion, SuggestionStatus
from tunesmith_controller.manager.requests import Answered, Refused, Requests
from tunesmith_controller.parsed import Parsed
from tunesmith_controller.ports import (
    Ask,
    CachedObjects,
    Endpoint,
    HostFailed,
    Invalid,
    Key,
    NotReady,
    Ports,
)
from tunesmith_controller.suggestion.decide import (
    Plan,
    Snapshot,
    answered,
    begin,
    decide,
    failed,
    running,
    unhealthy,
)
from tunesmith_controller.trial.absent import Absentees
from tunesmith_controller.trial.roster import Rosters


class SuggestionReconciler:
    """Asks an experiment's algorithm for the assignments that the experiment wants."""

    def __init__(  # noqa: PLR0917 - what the three reconcilers share, in their order
        self,
        ports: Ports,
        cache: CachedObjects,
        parsed: Parsed,
        requests: Requests,
        rosters: Rosters,
        absentees: Absentees,
    ) -> None:
        self._ports = ports
        self._cache = cache
        self._parsed = parsed
        self._requests = requests
        self._rosters = rosters
        self._absentees = absentees

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None:
            await self._let_go(key)
            return None
        suggestion = self._parsed.suggestion(cached)
        if suggestion.metadata.deletion_timestamp is not None:
            await self._let_go(key)
            return None
        experiment = self._experiment(suggestion)
        if experiment is None:
            return None
        if suggestion_state(suggestion.status.conditions) is SuggestionState.PENDING:
            status = begin(suggestion, self._seed(experiment), self._ports.clock.now())
            await self._write(suggestion, status)
            return None
        snapshot = await self._observe(key, suggestion, experiment)
        return await self._apply(key, snapshot, decide(snapshot, self._ports.clock.now()))

    def _seed(self, experiment: Experiment) -> int:
        """`random_state` where the user set one, else drawn once and recorded."""
        algorithm = experiment.spec.algorithm
        settings = {s.name: s.value for s in algorithm.algorithm_settings} if algorithm else {}
        given = settings.get("random_state", "")
        return int(given) if given.isdecimal() else self._ports.rng.seed()

    # ---- observe --------------------------------------------------------------------------------

    def _experiment(self, suggestion: Suggestion) -> Experiment | None:
        metadata = suggestion.metadata
        cached = self._cache.get(Key("Experiment", metadata.namespace, metadata.name))
        owners = {reference.uid for reference in metadata.owner_references}
        if cached is None or cached["metadata"].get("uid") not in owners:
            return None
        return self._parsed.experiment(cached)

    async def _observe(self, key: Key, suggestion: Suggestion, experiment: Experiment) -> Snapshot:
        metadata, status = experiment.metadata, suggestion.status
        problem = problem_of(experiment, metadata.uid, int(status.seed or 0))
        over = _over(experiment)
        endpoint = None if over else await self._endpoint(key, suggestion, problem)
        waiting = {a.ordinal for a in status.suggestions}
        trials = self._rosters.of(metadata.uid, problem.objective)
        missing = await self._absentees.of(metadata, status.suggestion_count, waiting, trials)
        return Snapshot(
            suggestion=suggestion,
            problem=problem,
            # Read last: nothing is awaited before it is decided upon.
            trials=self._rosters.of(metadata.uid, problem.objective),
            endpoint=endpoint,
            experiment_over=over,
            missing=missing,
            enqueued=[
                {p.name: p.value for p in point.parameter_assignments}
                for point in experiment.spec.enqueued
            ],
        )

    async def _endpoint(
        self, key: Key, suggestion: Suggestion, problem: Problem
    ) -> Endpoint | NotReady | HostFailed | None:
        if suggestion_state(suggestion.status.conditions).is_terminal:
            return None
        return await self._ports.host.ensure(key, problem.algorithm)

    # ---- apply ----------------------------------------------------------------------------------

    async def _apply(self, key: Key, snapshot: Snapshot, plan: Plan) -> float | None:
        if plan.status is not None:
            await self._write(snapshot.suggestion, plan.status)
        if plan.release:
            await self._let_go(key)
        if plan.validate:
            return await self._validate(key, snapshot)
        if plan.ask is not None:
            return await self._ask(key, snapshot, plan.ask)
        return plan.again

    async def _let_go(self, key: Key) -> None:
        self._requests.forget(key)
        await self._ports.host.release(key)

    async def _validate(self, key: Key, snapshot: Snapshot) -> float | None:
        endpoint, problem = snapshot.endpoint, snapshot.problem
        if not isinstance(endpoint, Endpoint):
            return None
        outcome = self._requests.poll(
            key,
            f"validate/{problem.experiment_uid}",
            lambda: self._ports.suggestions.validate(endpoint, problem),
        )
        match outcome:
            case None:
                return None
            case Refused(error=Invalid() as error):
                await self._fail(snapshot, f"Validation failed: {error}")
            case Refused() as refused:
                return await self._retry_later(snapshot, refused)
            case Answered(value=problems) if problems:
                await self._fail(snapshot, f"Validation failed: {'; '.join(problems)}")
            case Answered():
                status = running(snapshot.suggestion, self._ports.clock.now())
                await self._write(snapshot.suggestion, status)
        return None

    async def _ask(self, key: Key, snapshot: Snapshot, ask: Ask) -> float | None:
        endpoint = snapshot.endpoint
        if not isinstance(endpoint, Endpoint):
            return None
        outcome = self._requests.poll(
            key, ask.request_id, lambda: self._ports.suggestions.suggest(endpoint, ask)
        )
        match outcome:
            case None:
                return None
            case Refused(error=Invalid() as error):
                await self._fail(snapshot, f"the algorithm refused the request: {error}")
            case Refused() as refused:
                return await self._retry_later(snapshot, refused)
            case Answered(value=answer):
                status = answered(snapshot, ask, answer, self._ports.clock.now())
                await self._write(snapshot.suggestion, status)
        return None

    async def _fail(self, snapshot: Snapshot, message: str) -> None:
        status = failed(snapshot.suggestion, message, self._ports.clock.now())
        await self._write(snapshot.suggestion, status)

    async def _retry_later(self, snapshot: Snapshot, refused: Refused) -> float:
        now = self._ports.clock.now()
        status = unhealthy(snapshot.suggestion, refused.error, refused.failures, now)
        if status is not None:
            await self._write(snapshot.suggestion, status)
        return min(0.2 * 2.0 ** min(refused.failures, 8), 10.0)

    async def _write(self, suggestion: Suggestion, status: SuggestionStatus) -> None:
        if status == suggestion.status:
            return
        await self._ports.store.update_status(suggestion.with_(status=status).json())
        self._announce(suggestion, status)

    def _announce(self, suggestion: Suggestion, status: SuggestionStatus) -> None:
        before, after = (
            find(suggestion.status.conditions, "Failed"),
            find(status.conditions, "Failed"),
        )
        if after is not None and before is None:
            self._ports.events.record(suggestion.json(), "Warning", after.reason, after.message)


def _over(experiment: Experiment) -> str:
    state = experiment_state(experiment.status.conditions)
    return str(state) if state.is_terminal else ""
