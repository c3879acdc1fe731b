# SPDX-License-Identifier: Apache-2.0
"""`KubernetesWorkloads`: attempts as jobs of a cluster, of any kind that its API has.

Made by whoever assembles a controller for a cluster. An attempt's job has the trial's name and says
which attempt it is; the API lets only one object have a name, so an attempt starts once, whoever
asks. Jobs and pods are followed by watches: once they run, observing asks the API nothing.

Stopping what never started forbids its start by what is on record before anybody stops: the Trial
has ended, is being stopped, goes, or has a later attempt, and the reconciler reads the live Trial
before each start. Beyond that, this object starts nothing that it has stopped or released, looks
at the API itself when it stops, and deletes such a job should a slower controller still create it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tunesmith_controller.admission.collection import CollectionPlan
from tunesmith_controller.admission.pods import InjectionSettings
from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    JobAbsent,
    JobLost,
    JobPresent,
    JobState,
    JobWaiting,
    Json,
    Key,
    NotFound,
    PortError,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.workloads import cluster_object as jobs
from tunesmith_controller.workloads.cluster_api import JobApi
from tunesmith_controller.workloads.cluster_attempts import Attempts
from tunesmith_controller.workloads.cluster_kinds import NotInstalled
from tunesmith_controller.workloads.cluster_pods import PodFacts
from tunesmith_controller.workloads.cluster_refusals import refusal
from tunesmith_controller.workloads.cluster_rows import PodRows
from tunesmith_controller.workloads.cluster_view import ClusterView, View, hindrance

__all__ = ["ClusterWorkloadSettings", "KubernetesWorkloads"]

Resolve = Callable[[CollectionPlan, Json], Awaitable[CollectionPlan]]
"""Completes a plan with the entrypoint of an image, given the job."""

Prepare = Callable[[str], Awaitable[None]]
"""Makes what pods of a namespace mount, before the first of them is made."""

_LOG = logging.getLogger(__name__)
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ClusterWorkloadSettings:
    """namespaces: those that are looked at; None for all. injection: how pods are collected;
    None where no pod is. inject_templates: nobody admits pods, so the collector goes into the pod
    templates of the kinds whose templates are known. sync_s: how long a call waits for the first
    list of a kind, in seconds."""

    namespaces: tuple[str, ...] | None = None
    injection: InjectionSettings | None = None
    inject_templates: bool = False
    sync_s: float = 10.0


class KubernetesWorkloads:
    """The `Workloads` port over a Kubernetes API. For one event loop; `aclose` ends its watches."""

    def __init__(
        self,
        transport: ApiTransport,
        settings: ClusterWorkloadSettings | None = None,
        *,
        resolve: Resolve | None = None,
        prepare: Prepare | None = None,
        rows: PodRows | None = None,
    ) -> None:
        self._settings = settings or ClusterWorkloadSettings()
        self._resolve, self._prepare, self._rows = resolve, prepare, rows
        if rows is not None:
            rows.on_rows(self._announce)
        self._api = JobApi(transport)
        self._attempts = Attempts()
        self._deleting: dict[str, None] = {}
        self._listeners: list[dict[Key, None]] = []
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._view = ClusterView(
            transport,
            self._attempts,
            namespaces=self._settings.namespaces,
            announce=self._announce,
            unwanted=self._delete_later,
        )

    async def aclose(self) -> None:
        """Ends the watches and whatever is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._rows is not None:
            await self._rows.aclose()
        await self._view.aclose()

    # ---- the port ----

    async def ensure(self, run: TrialRun) -> JobState:
        """Also raises NotInstalled, an Invalid, where the cluster does not have the kind."""
        view = await self._viewed(run)
        state = self._state(run, view)
        if not isinstance(state, JobAbsent):
            return state
        there = view.job(run)
        if there is not None:
            state = await self._make_room(run, there)
            if isinstance(state, JobLost) or any(not pod.over for pod in view.pods_of(run)):
                return state
        return await self._create(run)

    async def observe(self, run: TrialRun) -> JobState:
        try:
            view = await self._viewed(run)
        except NotInstalled:
            return self._without_job(run, ())
        return self._state(run, view)

    async def stop(self, run: TrialRun) -> None:
        try:
            view = await self._viewed(run)
        except NotInstalled:
            return
        job = view.job(run)
        if not _is_of(job, run):
            job = await self._live(run)
        if job is None or not _is_of(job, run):
            self._attempts.of(_id(run)).stopped = True
        elif not jobs.is_finished(job):
            self._attempts.of(_id(run)).stopped = True
            await self._delete(job)
        self._announce(run.trial)

    async def release(self, run: TrialRun) -> None:
        """Deletes the job unless it is to be kept."""
        try:
            view = await self._viewed(run)
        except NotInstalled:
            return
        job = view.job(run)
        if job is not None and _is_of(job, run):
            if run.retain and not self._attempts.get(_id(run)).stopped:
                return
            await self._delete(job)
        self._attempts.close(_id(run))

    async def sweep(self, trial: Key, trial_uid: str) -> None:
        for job in self._view.jobs_of(trial_uid):
            if not jobs.is_retained(job):
                await self._delete(job)

    async def remove(self, trial_uid: str) -> None:
        """Jobs that are kept go with their Trial; what of the trial still runs is Unavailable."""
        found = [job for job in self._view.jobs_of(trial_uid) if not _is_going(job)]
        for job in found:
            if not jobs.is_finished(job) and jobs.has_known_pods(job):
                raise Unavailable(f"the job {job['metadata']['name']} has not ended yet")
        for job in found:
            await self._delete(job)
        self._attempts.forget(trial_uid)

    async def changed(self) -> AsyncIterator[Key]:
        """Also what looks after reasons of pods that do not start."""
        pending: dict[Key, None] = {}
        self._listeners.append(pending)
        self._view.look_after()
        try:
            while True:
                while pending:
                    key = next(iter(pending))
                    del pending[key]
                    yield key
                self._news.clear()
                await self._news.wait()
        finally:
            self._listeners.remove(pending)

    # ---- states ----

    async def _viewed(self, run: TrialRun) -> View:
        """What is known of the run's kind and namespace. Raises NotInstalled, Unavailable."""
        kind = jobs.kind_of(run)
        resource = await self._api.kinds.resource(*kind)
        return await self._view.of(kind, resource, run.trial.namespace, self._settings.sync_s)

    def _state(self, run: TrialRun, view: View) -> JobState:
        if view.denied and not self._attempts.get(_id(run)).stopped:
            return JobWaiting(view.denied)
        job = view.job(run)
        if job is not None and _is_of(job, run):
            return self._of_job(run, job, view)
        # The pods of an earlier attempt are waited for once its job is on its way.
        pods = () if self._is_to_go(job, run) else view.pods_of(run)
        state = self._without_job(run, pods)
        if isinstance(state, JobAbsent) and job is not None and self._goes(job):
            return JobWaiting(_clearing(job))
        return state

    def _is_to_go(self, job: Json | None, run: TrialRun) -> bool:
        """Whether it is an earlier attempt's and nobody has deleted it."""
        number = None if job is None else jobs.attempt_of(job, run.trial_uid)
        return number is not None and number < run.attempt and not self._goes(job or {})

    def _of_job(self, run: TrialRun, job: Json, view: View) -> JobState:
        attempt = self._attempts.get(_id(run))
        pods = [pod for pod in view.pods_of(run) if pod.attempt in (0, run.attempt)]
        if self._rows is not None:
            self._rows.seen(run, pods)
        if jobs.is_finished(job):
            disrupted = [pod.disrupted for pod in pods if pod.over]
            if jobs.has_failed(job) and disrupted and all(disrupted):
                return JobLost(f"its pod was ended from outside, {disrupted[-1]}")
            return _present(job)
        if self._goes(job):
            return JobWaiting("its job is being deleted")
        if jobs.is_suspended(job):
            return JobWaiting("its job is suspended; a queue, or whoever suspended it, resumes it")
        reason = hindrance(pods, attempt.told)
        if reason:
            return JobWaiting(reason)
        ended_well = len(pods) == 1 and pods[0].ended_well
        return replace(_present(job), foreseen=jobs.foreseen(job) if ended_well else None)

    def _without_job(self, run: TrialRun, pods: Sequence[PodFacts]) -> JobState:
        attempt = self._attempts.get(_id(run))
        if attempt.last is not None:
            return _present(attempt.last)
        for pod in pods:
            if not pod.over and pod.attempt <= run.attempt:
                return JobWaiting(f"pod {pod.name} of attempt {pod.attempt} is ending")
        if attempt.stopped:
            return JobLost("it was stopped")
        if attempt.seen:
            return JobLost("its job was deleted")
        if attempt.refused and asyncio.get_running_loop().time() < attempt.retry_at:
            return JobWaiting(attempt.refused)
        return JobAbsent()

    # ---- making ----

    async def _create(self, run: TrialRun) -> JobState:
        plan = CollectionPlan.from_run(run)
        if self._resolve is not None:
            plan = await self._resolve(plan, run.spec)
        body = jobs.job_object(
            run,
            plan,
            self._settings.injection,
            inject_templates=self._settings.inject_templates,
        )
        try:
            if self._prepare is not None:
                await self._prepare(run.trial.namespace)
            created = await self._api.create(body)
        except AlreadyExists:
            return await self._taken(run)
        except Denied as error:
            return self._refused(run, refusal(str(error)))
        self._attempts.of(_id(run)).refused = ""
        return await self._adopt(run, created)

    async def _adopt(self, run: TrialRun, job: Json) -> JobState:
        view = await self._viewed(run)
        view.remember(job)
        return self._of_job(run, job, view)

    async def _taken(self, run: TrialRun) -> JobState:
        """The name is taken: by this attempt, in a create whose answer was lost or another
        controller's, or by somebody else."""
        there = await self._live(run)
        if there is None:
            raise Unavailable(f"the job {run.trial.name} was there and has gone: try again")
        if _is_of(there, run):
            return await self._adopt(run, there)
        return await self._make_room(run, there)

    async def _make_room(self, run: TrialRun, there: Json) -> JobState:
        """An older attempt's job goes first. What is not the trial's stays, and is told."""
        number = jobs.attempt_of(there, run.trial_uid)
        if number is not None and number > run.attempt:
            return JobLost(f"attempt {number} of the trial has its job already")
        if number is None and not _is_going(there):
            raise jobs.name_conflict(there)
        await self._delete(there)
        return JobWaiting(_clearing(there))

    def _refused(self, run: TrialRun, reason: str) -> JobState:
        attempt = self._attempts.of(_id(run))
        delay = min(_FIRST_RETRY_S * 2**attempt.refusals, _LONGEST_RETRY_S)
        attempt.refused, attempt.refusals = reason, min(attempt.refusals + 1, 10)
        attempt.retry_at = asyncio.get_running_loop().time() + delay
        return JobWaiting(reason)

    # ---- ending ----

    async def _live(self, run: TrialRun) -> Json | None:
        """The object under the trial's name, whoever it is of, as the API has it now."""
        try:
            return await self._api.get(run)
        except NotFound:
            return None
        except Denied as error:
            _LOG.warning("%s", refusal(str(error)))
            return None

    async def _delete(self, job: Json) -> None:
        """This very object, its pods in the background; nothing where it goes already."""
        uid = job["metadata"]["uid"]
        if self._goes(job):
            return
        self._deleting[uid] = None
        if len(self._deleting) > 4096:
            del self._deleting[next(iter(self._deleting))]
        try:
            await self._api.delete(job)
        except (NotFound, Conflict):
            return
        except PortError:
            self._deleting.pop(uid, None)
            raise

    def _delete_later(self, job: Json) -> None:
        """A job that nobody wants has appeared."""
        if self._goes(job) or jobs.is_finished(job):
            return
        task = asyncio.get_running_loop().create_task(self._delete_unwanted(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _delete_unwanted(self, job: Json) -> None:
        name = job["metadata"]["name"]
        _LOG.warning("the job %s appeared after its attempt was stopped: deleting it", name)
        try:
            await self._delete(job)
        except PortError as error:
            _LOG.warning("cannot delete the job %s: %s", name, error)

    def _goes(self, job: Json) -> bool:
        """Whether its deletion was asked for, by us or, as far as is known, by anybody."""
        return _is_going(job) or job["metadata"]["uid"] in self._deleting

    def _announce(self, trial: Key) -> None:
        for pending in self._listeners:
            pending[trial] = None
        self._news.set()


def _id(run: TrialRun) -> tuple[str, int]:
    return run.trial_uid, run.attempt


def _is_of(job: Json | None, run: TrialRun) -> bool:
    """Whether it is this very attempt's."""
    return job is not None and jobs.attempt_of(job, run.trial_uid) == run.attempt


def _present(job: Json) -> JobPresent:
    return JobPresent(job["metadata"]["uid"], job)


def _is_going(job: Json) -> bool:
    return bool(job["metadata"].get("deletionTimestamp"))


def _clearing(job: Json) -> str:
    return f"an earlier job named {job['metadata']['name']} is being deleted"
