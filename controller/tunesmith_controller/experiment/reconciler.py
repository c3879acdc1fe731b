# SPDX-License-Identifier: Apache-2.0
"""Experiments: observe from the cache, decide, apply. Called by the manager with a name."""

from __future__ import annotations

from tunesmith_api import names
from tunesmith_api.problems import objective_of, space_of
from tunesmith_api.resources import Experiment, Suggestion, Trial, TrialAssignment
from tunesmith_api.template import render
from tunesmith_controller.experiment.decide import Plan, Snapshot, decide, trial_for
from tunesmith_controller.ports import (
    AlreadyExists,
    CachedObjects,
    Json,
    Key,
    NotFound,
    Ports,
)
from tunesmith_controller.trial.facts import FactBook, TrialFacts, owned_by


class NameConflict(Exception):
    """Something else stands under a name that we must use."""


class ExperimentReconciler:
    """Keeps an Experiment supplied with trials until a rule ends it."""

    def __init__(self, ports: Ports, cache: CachedObjects) -> None:
        self._ports = ports
        self._cache = cache
        self._facts = FactBook(cache)

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        experiment = Experiment.parse(cached)
        if experiment.metadata.deletion_timestamp is not None:
            await self._let_go(cached)
            return None
        snapshot = await self._observe(experiment)
        plan = decide(snapshot, self._ports.clock.now())
        await self._apply(snapshot, plan)
        return None

    # ---- observe --------------------------------------------------------------------------------

    async def _observe(self, experiment: Experiment) -> Snapshot:
        metadata = experiment.metadata
        trials = self._facts.trials(metadata.namespace, metadata.name, metadata.uid)
        suggestion = self._suggestion(experiment)
        return Snapshot(
            experiment=experiment,
            objective=objective_of(experiment),
            suggestion=suggestion,
            trials=trials,
            gone=await self._gone(experiment, suggestion, trials),
        )

    def _suggestion(self, experiment: Experiment) -> Suggestion | None:
        metadata = experiment.metadata
        cached = self._cache.get(Key("Suggestion", metadata.namespace, metadata.name))
        if cached is None or not owned_by(cached, metadata.uid):
            return None
        return Suggestion.parse(cached)

    async def _gone(
        self, experiment: Experiment, suggestion: Suggestion | None, trials: list[TrialFacts]
    ) -> int:
        """Ordinals whose Trial existed and was deleted by hand. The cache may just be late, so a
        suspicion is confirmed by a live list before it counts."""
        if suggestion is None:
            return 0
        waiting = {a.ordinal for a in suggestion.status.suggestions}
        known = waiting | {facts.ordinal for facts in trials}
        missing = set(range(suggestion.status.suggestion_count)) - known
        if not missing:
            return 0
        metadata = experiment.metadata
        live = await self._ports.store.list(
            "Trial",
            namespace=metadata.namespace,
            labels={names.LABEL_EXPERIMENT: metadata.name},
        )
        there = {_ordinal(obj) for obj in live.items if owned_by(obj, metadata.uid)}
        return len(missing - there)

    # ---- apply ----------------------------------------------------------------------------------

    async def _apply(self, snapshot: Snapshot, plan: Plan) -> None:
        if plan.create_suggestion is not None:
            await self._create(plan.create_suggestion.json(), snapshot.experiment.metadata.uid)
        if plan.set_requests is not None and snapshot.suggestion is not None:
            await self._set_requests(snapshot.suggestion, plan.set_requests)
        for assignment in plan.create_trials:
            await self._create_trial(snapshot, assignment)
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

    async def _create_trial(self, snapshot: Snapshot, assignment: TrialAssignment) -> None:
        experiment, suggestion = snapshot.experiment, snapshot.suggestion
        if suggestion is None:
            return
        run_spec = render(
            experiment,
            {p.name: p.value for p in assignment.parameter_assignments},
            space_of(experiment),
            name=assignment.name,
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


def _ordinal(obj: Json) -> int | None:
    text = (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_ORDINAL, "")
    return int(text) if text.isdecimal() else None
