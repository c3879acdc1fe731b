# SPDX-License-Identifier: Apache-2.0
"""Trials: observe (cache, job, rows), decide, apply. Called by the manager with a name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunesmith_api import names
from tunesmith_api.conditions import trial_state
from tunesmith_api.metrics import Row
from tunesmith_api.resources import Trial
from tunesmith_controller.ports import (
    CachedObjects,
    Conflict,
    Invalid,
    JobPresent,
    JobState,
    Key,
    NotFound,
    Ports,
    SourceState,
    TrialRun,
)
from tunesmith_controller.trial.decide import (
    JobRefused,
    Limits,
    Plan,
    Snapshot,
    Step,
    Verdict,
    decide,
    judge,
    run_of,
    wanted_metrics,
)


class TrialReconciler:
    """Runs each Trial once, as numbered attempts, and says how it ended."""

    def __init__(
        self,
        ports: Ports,
        cache: CachedObjects,
        *,
        poll_s: float = 5.0,
        grace_s: float = 60.0,
        lost_retries: int = 3,
    ) -> None:
        self._ports = ports
        self._cache = cache
        self._limits = Limits(poll_s, grace_s, lost_retries)
        # When the end of an attempt was first seen, on the loop's monotonic clock. A restart
        # begins the grace period anew, a jump of the wall clock does not end it.
        self._ended_since: dict[str, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        trial = Trial.parse(cached)
        snapshot = await self._observe(trial)
        plan = self._decide(snapshot)
        if plan.step is Step.START:
            snapshot = replace(snapshot, job=await self._start(trial))
            plan = self._decide(snapshot)
        await self._apply(trial, plan)
        return plan.again

    def _decide(self, snapshot: Snapshot) -> Plan:
        return decide(snapshot, self._ports.clock.now(), self._limits)

    # ---- observe --------------------------------------------------------------------------------

    async def _observe(self, trial: Trial) -> Snapshot:
        job = await self._job(trial)
        snapshot = Snapshot(trial, experiment_over=self._experiment_over(trial), job=job)
        if trial_state(trial.status.conditions).is_terminal or not _succeeded(trial, job):
            self._ended_since.pop(trial.metadata.uid, None)
            return snapshot
        sources, rows = await self._metrics(trial)
        return replace(snapshot, sources=sources, rows=rows, waited=self._waited(trial))

    async def _job(self, trial: Trial) -> JobState | None:
        run = run_of(trial)
        if not run.attempt:
            return None
        ending = trial.metadata.deletion_timestamp is not None
        if run.released and not ending:
            return None
        return await self._ports.workloads.observe(run_for(trial))

    async def _metrics(self, trial: Trial) -> tuple[Mapping[str, SourceState], Sequence[Row]]:
        uid, attempt = trial.metadata.uid, run_of(trial).attempt
        log = self._ports.observations
        # Sources first: when they have ended, the rows read next are all there will be.
        sources = await log.sources(uid, attempt)
        rows = [
            row
            for metric in wanted_metrics(trial)
            for row in await log.rows(uid, attempt, metric=metric)
        ]
        return sources, rows

    def _waited(self, trial: Trial) -> float:
        now = asyncio.get_running_loop().time()
        return now - self._ended_since.setdefault(trial.metadata.uid, now)

    def _experiment_over(self, trial: Trial) -> str:
        """Why a running trial should stop: its experiment has ended."""
        metadata = trial.metadata
        name = (metadata.labels or {}).get(names.LABEL_EXPERIMENT, "")
        experiment = self._cache.get(Key("Experiment", metadata.namespace, name))
        if experiment is None:
            return ""
        owners = {reference.uid for reference in metadata.owner_references}
        if experiment["metadata"].get("uid") not in owners:
            return ""
        last = ((experiment.get("status") or {}).get("conditions") or [{}])[-1]
        if last.get("type") not in ("Succeeded", "Failed"):
            return ""
        return f"the experiment has ended: {last.get('message', '')}"

    # ---- apply ----------------------------------------------------------------------------------

    async def _start(self, trial: Trial) -> JobState | JobRefused:
        """Starts the recorded attempt, if the live object still says so: a stale copy may not
        start what has been decided otherwise meanwhile."""
        metadata = trial.metadata
        live = Trial.parse(
            await self._ports.store.get(Key("Trial", metadata.namespace, metadata.name))
        )
        same = live.metadata.uid == metadata.uid and live.status.run == trial.status.run
        gone = live.metadata.deletion_timestamp is not None
        if not same or gone or trial_state(live.status.conditions).is_terminal:
            raise Conflict(f"Trial {metadata.name} changed before its start")
        try:
            return await self._ports.workloads.ensure(run_for(trial))
        except Invalid as error:
            return JobRefused(str(error))

    async def _apply(self, trial: Trial, plan: Plan) -> None:
        if plan.step is not None:
            await self._do(trial, plan.step)
        if plan.status is not None:
            await self._ports.store.update_status(trial.with_(status=plan.status).json())
        if plan.notice is not None:
            notice = plan.notice
            self._ports.events.record(trial.json(), notice.type, notice.reason, notice.message)

    async def _do(self, trial: Trial, step: Step) -> None:
        ports, run = self._ports, run_for(trial)
        match step:
            case Step.STOP:
                await ports.workloads.stop(run)
            case Step.RELEASE:
                await ports.workloads.release(run)
            case Step.FENCE:
                await ports.observations.fence(trial.metadata.uid, run.attempt + 1)
            case Step.FORGET:
                await self._forget(trial)
            case Step.START:
                pass

    async def _forget(self, trial: Trial) -> None:
        """Rows, output, then the finalizer: a crash in between repeats it."""
        uid = trial.metadata.uid
        await self._ports.observations.delete(uid)
        await self._ports.workloads.remove(uid)
        self._ended_since.pop(uid, None)
        kept = tuple(f for f in trial.metadata.finalizers if f != names.FINALIZER_TRIAL)
        if kept == trial.metadata.finalizers:
            return
        body = trial.json()
        body["metadata"]["finalizers"] = list(kept)
        try:
            await self._ports.store.update(body)
        except NotFound:
            return


def run_for(trial: Trial) -> TrialRun:
    """The current attempt of a Trial as Workloads wants it."""
    metadata = trial.metadata
    annotations = metadata.annotations or {}
    wanted = (names.ANNOTATION_FOLDER, names.ANNOTATION_PATH)
    return TrialRun(
        trial=Key("Trial", metadata.namespace, metadata.name),
        trial_uid=metadata.uid,
        attempt=run_of(trial).attempt,
        spec=trial.spec.run_spec or {},
        primary_container=trial.spec.primary_container_name,
        metrics=wanted_metrics(trial),
        context={name: annotations[name] for name in wanted if name in annotations},
    )


def _succeeded(trial: Trial, job: JobState | None) -> bool:
    if not isinstance(job, JobPresent):
        return False
    judged = judge(job.manifest, trial.spec.success_condition, trial.spec.failure_condition)
    return judged.verdict is Verdict.SUCCEEDED
