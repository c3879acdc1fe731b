# SPDX-License-Identifier: Apache-2.0
"""Trials: observe (cache, job, rows), decide, apply. Called by the manager with a name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunesmith_api import names
from tunesmith_api.conditions import TrialState, experiment_state, trial_state
from tunesmith_api.metrics import Row
from tunesmith_api.resources import Experiment, FileSystemPath, MetricsCollectorSpec, Trial
from tunesmith_controller.experiment.decide import is_paused, may_finish
from tunesmith_controller.parsed import Parsed
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
    Unavailable,
)
from tunesmith_controller.trial.bench import Bench
from tunesmith_controller.trial.decide import (
    HELD,
    PAUSED,
    JobRefused,
    Limits,
    Plan,
    Snapshot,
    Step,
    Verdict,
    decide,
    foreseen_success,
    have_ended,
    is_over,
    judge,
    metric_filters,
    run_of,
    wanted_metrics,
)
from tunesmith_controller.trial.settled import is_settled


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
        sweeps: bool = False,
        bench: Bench,
        parsed: Parsed,
    ) -> None:
        self._ports = ports
        self._cache = cache
        self._parsed = parsed
        self._bench = bench
        self._limits = Limits(poll_s, grace_s, lost_retries, sweeps)
        # When the end of an attempt was first seen, on the loop's monotonic clock. A restart
        # begins the grace period anew, a jump of the wall clock does not end it.
        self._ended_since: dict[str, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None:
            return None
        if is_settled(cached):
            if self._limits.sweeps:
                await self._ports.workloads.sweep(key, cached["metadata"]["uid"])
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
        experiment = self._experiment(trial)
        paused = _paused(trial, experiment)
        snapshot = Snapshot(
            trial,
            experiment_over=_over(experiment),
            may_finish=experiment is not None and may_finish(experiment),
            paused=paused,
            earlier_over=await self._earlier_over(trial) if paused else True,
            job=job,
        )
        if self._needs_rows(snapshot):
            waited = self._waited(trial)
            sources, rows = await self._metrics(trial, waited)
            return replace(snapshot, sources=sources, rows=rows, waited=waited)
        self._ended_since.pop(trial.metadata.uid, None)
        if experiment is not None and _may_be_judged(snapshot):
            return replace(snapshot, stop=await self._bench.judge(experiment, trial))
        return snapshot

    def _needs_rows(self, snapshot: Snapshot) -> bool:
        """Whether an attempt's end is about to be summed up."""
        trial = snapshot.trial
        if trial_state(trial.status.conditions).is_terminal:
            return False
        if run_of(trial).stopping is not None:
            return is_over(snapshot.job, trial)
        return _succeeded(trial, snapshot.job)

    async def _job(self, trial: Trial) -> JobState | None:
        run = run_of(trial)
        ending = trial.metadata.deletion_timestamp is not None
        if run.released and not ending:
            return None
        return await self._ports.workloads.observe(run_for(trial))

    async def _metrics(
        self, trial: Trial, waited: float
    ) -> tuple[Mapping[str, SourceState], Sequence[Row]]:
        """Rows only where they will be summed up now: all of them are there, or nobody waits for
        more."""
        uid, attempt = trial.metadata.uid, run_of(trial).attempt
        log = self._ports.observations
        # Sources first: when they have ended, the rows read next are all there will be.
        sources = await log.sources(uid, attempt)
        if not have_ended(sources) and waited < self._limits.grace_s:
            return sources, ()
        rows = [
            row
            for metric in wanted_metrics(trial)
            for row in await log.rows(uid, attempt, metric=metric)
        ]
        return sources, rows

    def _waited(self, trial: Trial) -> float:
        now = asyncio.get_running_loop().time()
        return now - self._ended_since.setdefault(trial.metadata.uid, now)

    def _experiment(self, trial: Trial) -> Experiment | None:
        """The Experiment that owns this very trial, as far as the cache knows."""
        metadata = trial.metadata
        name = (metadata.labels or {}).get(names.LABEL_EXPERIMENT, "")
        cached = self._cache.get(Key("Experiment", metadata.namespace, name))
        owners = {reference.uid for reference in metadata.owner_references}
        if cached is None or cached["metadata"].get("uid") not in owners:
            return None
        return self._parsed.experiment(cached)

    async def _earlier_over(self, trial: Trial) -> bool:
        earlier = _earlier(trial)
        return earlier is None or is_over(await self._ports.workloads.observe(earlier), trial)

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
        await self._end_earlier(trial)
        try:
            return await self._ports.workloads.ensure(run_for(trial))
        except Invalid as error:
            return JobRefused(str(error))

    async def _end_earlier(self, trial: Trial) -> None:
        """The job of the attempt before is gone, and its rows are closed, before the next one is
        created. Only here: until then that attempt may still turn out to be the current one."""
        attempt = run_of(trial).attempt
        if attempt <= 1:
            return
        if not await self._earlier_over(trial):
            await self._do(trial, Step.STOP_EARLIER)
            raise Unavailable(f"an earlier attempt of {trial.metadata.name} is still ending")
        await self._ports.observations.fence(trial.metadata.uid, attempt)

    async def _apply(self, trial: Trial, plan: Plan) -> None:
        if plan.step is not None:
            await self._do(trial, plan.step)
        if plan.status is not None:
            await self._ports.store.update_status(trial.with_(status=plan.status).json())
        if plan.then is not None:
            await self._do(trial, plan.then)
        if plan.notice is not None:
            notice = plan.notice
            self._ports.events.record(trial.json(), notice.type, notice.reason, notice.message)

    async def _do(self, trial: Trial, step: Step) -> None:
        ports, run = self._ports, run_for(trial)
        match step:
            case Step.STOP:
                await ports.workloads.stop(run)
            case Step.STOP_EARLIER:
                if (earlier := _earlier(trial)) is not None:
                    await ports.workloads.stop(earlier)
            case Step.RELEASE:
                await ports.workloads.release(run)
            case Step.FORGET:
                await self._forget(trial)
            case Step.START:
                pass

    async def _forget(self, trial: Trial) -> None:
        """Rows, output, then the finalizer: a crash in between repeats it. The fence keeps rows
        out that a collector still holds."""
        uid = trial.metadata.uid
        await self._ports.observations.fence(uid, run_of(trial).attempt + 1)
        await self._ports.observations.delete(uid)
        await self._ports.workloads.remove(uid)
        self._ended_since.pop(uid, None)
        self._bench.forget(uid)
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
    collector = trial.spec.metrics_collector or MetricsCollectorSpec()
    source = collector.source
    file = (source.file_system_path if source else None) or FileSystemPath()
    return TrialRun(
        trial=Key("Trial", metadata.namespace, metadata.name),
        trial_uid=metadata.uid,
        attempt=run_of(trial).attempt,
        spec=trial.spec.run_spec or {},
        primary_container=trial.spec.primary_container_name,
        metrics=wanted_metrics(trial),
        filters=metric_filters(trial),
        context={name: annotations[name] for name in wanted if name in annotations},
        collector=(collector.collector.kind if collector.collector else "") or "StdOut",
        metrics_path=file.path,
        metrics_format=file.format or "TEXT",
        parent_uid=annotations.get(names.ANNOTATION_PARENT, ""),
        labels=dict(metadata.labels or {}),
        primary_pod_labels=dict(trial.spec.primary_pod_labels or {}),
        retain=trial.spec.retain_run,
    )


def _earlier(trial: Trial) -> TrialRun | None:
    """The attempt before the current one."""
    run = run_for(trial)
    return replace(run, attempt=run.attempt - 1) if run.attempt > 1 else None


def _over(experiment: Experiment | None) -> str:
    """Why a running trial should stop: its experiment has ended."""
    if experiment is None or not experiment_state(experiment.status.conditions).is_terminal:
        return ""
    return f"the experiment has ended: {experiment.status.conditions[-1].message}"


def _paused(trial: Trial, experiment: Experiment | None) -> str:
    """Why nothing of a trial may run, empty when it may."""
    if experiment is not None and is_paused(experiment):
        return PAUSED
    held = (trial.metadata.annotations or {}).get(names.ANNOTATION_PAUSED) == "true"
    return HELD if held else ""


def _may_be_judged(snapshot: Snapshot) -> bool:
    """Only an attempt that runs, and that nothing else ends or interrupts."""
    trial = snapshot.trial
    return (
        trial_state(trial.status.conditions) is TrialState.RUNNING
        and run_of(trial).stopping is None
        and not (snapshot.paused or snapshot.experiment_over)
        and isinstance(snapshot.job, JobPresent)
        and not is_over(snapshot.job, trial)
    )


def _succeeded(trial: Trial, job: JobState | JobRefused | None) -> bool:
    if not isinstance(job, JobPresent):
        return False
    judged = judge(job.manifest, trial.spec.success_condition, trial.spec.failure_condition)
    return judged.verdict is Verdict.SUCCEEDED or foreseen_success(trial, job) is not None
