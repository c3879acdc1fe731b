# SPDX-License-Identifier: Apache-2.0
"""Experiments: observe from the cache, decide, apply. Called by the manager with a name."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from tunesmith_api import names
from tunesmith_api.problem import Objective
from tunesmith_api.problems import objective_of, space_of
from tunesmith_api.resources import Experiment, Suggestion, Trial, TrialAssignment
from tunesmith_api.template import render
from tunesmith_controller.experiment.decide import Plan, Snapshot, decide, trial_for
from tunesmith_controller.parsed import Parsed
from tunesmith_controller.ports import (
    AlreadyExists,
    CachedObjects,
    Json,
    Key,
    NotFound,
    Ports,
    Unavailable,
)
from tunesmith_controller.trial.absent import Absentees
from tunesmith_controller.trial.facts import owned_by
from tunesmith_controller.trial.roster import Rosters


class NameConflict(Exception):
    """Something else stands under a name that we must use."""


class ExperimentReconciler:
    """Keeps an Experiment supplied with trials until a rule ends it."""

    def __init__(
        self,
        ports: Ports,
        cache: CachedObjects,
        parsed: Parsed,
        rosters: Rosters,
        absentees: Absentees,
        *,
        status_every_s: float = 0.0,
    ) -> None:
        """`status_every_s`: counters may wait so long to be written; states never do."""
        self._ports = ports
        self._cache = cache
        self._parsed = parsed
        self._rosters = rosters
        self._absentees = absentees
        self._status_every_s = status_every_s
        # When each status was last written, on the loop's clock.
        self._written: dict[str, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        experiment = self._parsed.experiment(cached)
        if experiment.metadata.deletion_timestamp is not None:
            self._written.pop(experiment.metadata.uid, None)
            await self._let_go(cached)
            return None
        snapshot = await self._observe(experiment)
        plan = self._paced(experiment, decide(snapshot, self._ports.clock.now()))
        await self._apply(snapshot, plan)
        return plan.again

    def _paced(self, experiment: Experiment, plan: Plan) -> Plan:
        """Without the status where that only counts on, and was written a moment ago."""
        if plan.status is None or not self._status_every_s:
            return plan
        uid, now = experiment.metadata.uid, asyncio.get_running_loop().time()
        left = self._written.get(uid, -math.inf) + self._status_every_s - now
        if plan.status.conditions != experiment.status.conditions or left <= 0:
            self._written[uid] = now
            return plan
        return replace(
            plan, status=None, again=left if plan.again is None else min(left, plan.again)
        )

    # ---- observe --------------------------------------------------------------------------------

    async def _observe(self, experiment: Experiment) -> Snapshot:
        suggestion, objective = self._suggestion(experiment), objective_of(experiment)
        # Before the census: nothing is awaited between reading it and deciding.
        gone = await self._gone(experiment, suggestion, objective)
        trials = self._rosters.of(experiment.metadata.uid, objective)
        return Snapshot(experiment, objective, suggestion, trials, gone)

    def _suggestion(self, experiment: Experiment) -> Suggestion | None:
        metadata = experiment.metadata
        cached = self._cache.get(Key("Suggestion", metadata.namespace, metadata.name))
        if cached is None or not owned_by(cached, metadata.uid):
            return None
        return self._parsed.suggestion(cached)

    async def _gone(
        self, experiment: Experiment, suggestion: Suggestion | None, objective: Objective
    ) -> int:
        if suggestion is None:
            return 0
        trials = self._rosters.of(experiment.metadata.uid, objective)
        waiting = {a.ordinal for a in suggestion.status.suggestions}
        proposed = suggestion.status.suggestion_count
        return len(await self._absentees.of(experiment.metadata, proposed, waiting, trials))

    # ---- apply ----------------------------------------------------------------------------------

    async def _apply(self, snapshot: Snapshot, plan: Plan) -> None:
        if plan.create_suggestion is not None:
            await self._create(plan.create_suggestion.json(), snapshot.experiment.metadata.uid)
        if plan.set_requests is not None and snapshot.suggestion is not None:
            await self._set_requests(snapshot.suggestion, plan.set_requests)
        for name in plan.hold:
            await self._place(snapshot, name, held="true")
        for name in plan.unhold:
            await self._place(snapshot, name, held=None)
        if plan.create_trials:
            config_map = await self._config_map(snapshot.experiment)
            for assignment in plan.create_trials:
                await self._create_trial(snapshot, assignment, config_map)
        if plan.status is not None:
            body = snapshot.experiment.with_(status=plan.status).json()
            await self._ports.store.update_status(body)

    async def _set_requests(self, suggestion: Suggestion, requests: int) -> None:
        metadata = suggestion.metadata
        patch = {
            "metadata": {"resourceVersion": metadata.resource_version},
            "spec": {"requests": requests},
        }
        await self._ports.store.patch(Key("Suggestion", metadata.namespace, metadata.name), patch)

    async def _place(self, snapshot: Snapshot, name: str, *, held: str | None) -> None:
        """Holds a trial back, or gives it its place; one that is gone needs neither."""
        key = Key("Trial", snapshot.experiment.metadata.namespace, name)
        try:
            await self._ports.store.patch(
                key, {"metadata": {"annotations": {names.ANNOTATION_PAUSED: held}}}
            )
        except NotFound:
            return

    async def _config_map(self, experiment: Experiment) -> Json | None:
        """The ConfigMap that holds the trial template, where one does. Raises Unavailable while it
        is not there: its trials wait for it."""
        template = experiment.spec.trial_template
        source = template.config_map if template else None
        if source is None:
            return None
        key = Key("ConfigMap", source.config_map_namespace, source.config_map_name)
        try:
            return await self._ports.store.get(key)
        except NotFound:
            raise Unavailable(
                f"{key}, which holds the trial template, does not exist; create it and the "
                "trials follow"
            ) from None

    async def _create_trial(
        self, snapshot: Snapshot, assignment: TrialAssignment, config_map: Json | None
    ) -> None:
        experiment, suggestion = snapshot.experiment, snapshot.suggestion
        if suggestion is None:
            return
        run_spec = render(
            experiment,
            {p.name: p.value for p in assignment.parameter_assignments},
            space_of(experiment),
            name=assignment.name,
            **({} if config_map is None else {"config_map": config_map}),
        )
        trial = trial_for(experiment, suggestion, assignment, run_spec)
        await self._create(trial.json(), experiment.metadata.uid)

    async def _create(self, body: Json, experiment_uid: str) -> None:
        """Creates an object; finding it there, ours and alike, is success."""
        try:
            await self._ports.store.create(body)
        except AlreadyExists:
            metadata = body["metadata"]
            key = Key(body["kind"], metadata["namespace"], metadata["name"])
            there = await self._ports.store.get(key)
            if not owned_by(there, experiment_uid) or _assigned(there) != _assigned(body):
                self._ports.events.record(
                    body,
                    "Warning",
                    "NameConflict",
                    f"{key} exists and does not belong to this experiment; "
                    "delete it or rename the experiment",
                )
                raise

    async def _let_go(self, cached: Json) -> None:
        """Katib's finalizer on an Experiment that came from Katib holds nothing back here."""
        finalizers = cached["metadata"].get("finalizers") or []
        if names.FINALIZER_EXPERIMENT not in finalizers:
            return
        kept = [name for name in finalizers if name != names.FINALIZER_EXPERIMENT]
        metadata = {**cached["metadata"], "finalizers": kept}
        try:
            await self._ports.store.update({**cached, "metadata": metadata})
        except NotFound:
            return


def _assigned(obj: Json) -> list[tuple[str, str]]:
    spec = Trial.parse(obj).spec if obj["kind"] == "Trial" else None
    return [(p.name, p.value) for p in spec.parameter_assignments] if spec else []
