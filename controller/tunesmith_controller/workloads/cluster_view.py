# SPDX-License-Identifier: Apache-2.0
"""What the watches of a cluster say: jobs by name and by trial, pods by trial, reasons.

Owned by one `KubernetesWorkloads`. It starts a watch of a kind when the kind is first asked for,
keeps `Attempts` up to what is seen, and asks for events about jobs whose pods do not come to run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.ports import Json, Key, PortError, TrialRun
from tunesmith_controller.stores.rest import Resource
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.workloads import cluster_object as jobs
from tunesmith_controller.workloads.cluster_api import warning_about
from tunesmith_controller.workloads.cluster_attempts import Attempts
from tunesmith_controller.workloads.cluster_cache import Watching
from tunesmith_controller.workloads.cluster_pods import PodFacts, pod_facts
from tunesmith_controller.workloads.cluster_refusals import refusal

_LOG = logging.getLogger(__name__)
_PODS: Final = Resource("v1", "pods")
_LOOK_S: Final = 2.5
_FIRST_ASK_S: Final = 8.0
"""After how long without a running pod a job's events are read; then doubled up to the next."""
_LAST_ASK_S: Final = 300.0
_MOST_ASKED: Final = 10


@dataclass(frozen=True, slots=True)
class View:
    """Of one kind in one namespace. `denied` says which rights are missing, if some are."""

    jobs: Watching[Json]
    pods: Watching[PodFacts]
    by_trial: dict[tuple[str, str], dict[str, PodFacts]]
    denied: str = ""

    def job(self, run: TrialRun) -> Json | None:
        """Whatever has the trial's name."""
        return self.jobs.get(run.trial.namespace, run.trial.name)

    def pods_of(self, run: TrialRun) -> list[PodFacts]:
        """Of all attempts of this very trial."""
        found = self.by_trial.get((run.trial.namespace, run.trial.name), {})
        return [pod for pod in found.values() if pod.trial_uid in ("", run.trial_uid)]

    def remember(self, job: Json) -> None:
        self.jobs.remember(job)


def hindrance(pods: Sequence[PodFacts], told: str) -> str:
    """Why nothing of an attempt runs, empty when something does or nobody says why not."""
    if any(pod.began for pod in pods):
        return ""
    return next((pod.hindrance for pod in pods if pod.hindrance), told)


class ClusterView:
    """All watches of a controller. `announce` hears of trials with news, `unwanted` of jobs whose
    attempt was stopped or released before."""

    def __init__(
        self,
        transport: ApiTransport,
        attempts: Attempts,
        *,
        namespaces: Sequence[str] | None,
        announce: Callable[[Key], None],
        unwanted: Callable[[Json], None],
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self._namespaced = namespaces is not None
        self._announce, self._unwanted = announce, unwanted
        self._jobs: dict[tuple[str, str, str], Watching[Json]] = {}
        self._pods: dict[str, Watching[PodFacts]] = {}
        self._of_trial: dict[str, dict[str, Json]] = {}
        self._pods_of_trial: dict[tuple[str, str], dict[str, PodFacts]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._looking = False

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def of(
        self, kind: tuple[str, str], resource: Resource, namespace: str, wait_s: float
    ) -> View:
        """Once both were listed. Raises Unavailable when that takes longer than `wait_s`."""
        scope = namespace if self._namespaced else ""
        if (*kind, scope) not in self._jobs:
            self._jobs[*kind, scope] = self._watch(resource, scope, _kept_job(kind), self._told_job)
        if scope not in self._pods:
            self._pods[scope] = self._watch(_PODS, scope, pod_facts, self._told_pod)
        found, pods = self._jobs[*kind, scope], self._pods[scope]
        denied = await _denied(found, wait_s) or await _denied(pods, wait_s)
        return View(found, pods, self._pods_of_trial, denied)

    def jobs_of(self, trial_uid: str) -> list[Json]:
        return list(self._of_trial.get(trial_uid, {}).values())

    def look_after(self) -> None:
        """Looks for reasons from now on."""
        if not self._looking:
            self._looking = True
            self._run(self._look())

    # ---- watching -------------------------------------------------------------------------------

    def _watch(
        self,
        resource: Resource,
        scope: str,
        kept: Callable[[Json], Any],
        told: Callable[[Any, Any, Json], None],
    ) -> Watching[Any]:
        watching = Watching(
            self._transport,
            resource,
            selector=names.LABEL_TRIAL,
            namespace=scope or None,
            kept=kept,
            told=told,
        )
        self._run(watching.run())
        return watching

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _told_job(self, before: Json | None, after: Json | None, _: Json) -> None:
        job = after if after is not None else before
        if job is None or not (trial_uid := jobs.trial_uid_of(job)):
            return
        number, uid = jobs.attempt_of(job, trial_uid) or 0, job["metadata"]["uid"]
        if after is None:
            self._went(job, trial_uid, number)
        else:
            self._of_trial.setdefault(trial_uid, {})[uid] = job
            if self._attempts.is_unwanted((trial_uid, number)):
                self._unwanted(job)
            else:
                attempt = self._attempts.of((trial_uid, number))
                attempt.since = attempt.since or asyncio.get_running_loop().time()
                attempt.seen = True
        if _gist(before) != _gist(after):
            self._announce(_trial(job))

    def _went(self, job: Json, trial_uid: str, number: int) -> None:
        kept = self._of_trial.get(trial_uid, {})
        kept.pop(job["metadata"]["uid"], None)
        if not kept:
            self._of_trial.pop(trial_uid, None)
        attempt = self._attempts.get((trial_uid, number))
        if attempt.seen and jobs.is_finished(job):
            attempt.last = job

    def _told_pod(self, before: PodFacts | None, after: PodFacts | None, _: Json) -> None:
        pod = after or before
        if pod is None or not pod.trial:
            return
        key = (pod.namespace, pod.trial)
        members = self._pods_of_trial.setdefault(key, {})
        if before is not None:
            members.pop(before.uid, None)
        if after is not None:
            members[after.uid] = after
        if not members:
            del self._pods_of_trial[key]
        if after is None or before is None or _pod_gist(before) != _pod_gist(after):
            self._announce(Key("Trial", *key))

    # ---- reasons --------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for job, uid in self._due()[:_MOST_ASKED]:
                    await self._ask(job, uid)
            except PortError as error:
                # Without events there are fewer reasons, and nothing else.
                _LOG.info("events of jobs cannot be read: %s", error)

    def _due(self) -> list[tuple[Json, str]]:
        """Jobs whose pods do not come to run, and the uid of the object to be asked about."""
        now, found = asyncio.get_running_loop().time(), []
        for trial_uid, members in self._of_trial.items():
            for job in members.values():
                attempt = self._attempts.get((trial_uid, jobs.attempt_of(job, trial_uid) or 0))
                wait = min(_FIRST_ASK_S * 2**attempt.asked, _LAST_ASK_S)
                if now - (attempt.asked_at or attempt.since) < wait or not _may_be_stuck(job):
                    continue
                pods = list(self._pods_of_trial.get(_place(job), {}).values())
                if not any(pod.began or pod.hindrance for pod in pods):
                    found.append((job, pods[0].uid if pods else job["metadata"]["uid"]))
        return found

    async def _ask(self, job: Json, uid: str) -> None:
        trial_uid = jobs.trial_uid_of(job)
        attempt = self._attempts.of((trial_uid, jobs.attempt_of(job, trial_uid) or 0))
        attempt.asked_at = asyncio.get_running_loop().time()
        attempt.asked = min(attempt.asked + 1, 10)
        said = await warning_about(self._transport, job["metadata"]["namespace"], uid)
        about = "its job has no pod" if uid == job["metadata"]["uid"] else "its pod does not start"
        told = f"{about}, {said}" if said else ""
        if told != attempt.told:
            attempt.told = told
            self._announce(_trial(job))


async def _denied(watching: Watching[Any], wait_s: float) -> str:
    """Which right is missing to list it, empty when it was listed. Raises Unavailable."""
    try:
        await watching.listed(wait_s)
    except Denied as error:
        return refusal(str(error))
    return ""


def _kept_job(kind: tuple[str, str]) -> Callable[[Json], Json]:
    def kept(job: Json) -> Json:
        metadata = {k: v for k, v in job["metadata"].items() if k != "managedFields"}
        return {**job, "apiVersion": kind[0], "kind": kind[1], "metadata": metadata}

    return kept


def _gist(job: Json | None) -> object:
    """What of a job may matter to its trial; counters of pods do not."""
    if job is None:
        return None
    metadata, status = job["metadata"], job.get("status") or {}
    if job["kind"] == "Job":
        status = {"conditions": status.get("conditions"), "active": bool(status.get("active"))}
    suspended, going = jobs.is_suspended(job), bool(metadata.get("deletionTimestamp"))
    return metadata["uid"], status, suspended, going


def _pod_gist(pod: PodFacts) -> object:
    is_printing = pod.is_read and pod.began
    return pod.hindrance, pod.over, pod.disrupted, pod.ended_well, pod.has_unsent, is_printing


def _may_be_stuck(job: Json) -> bool:
    idle = (
        jobs.is_finished(job) or jobs.is_suspended(job) or job["metadata"].get("deletionTimestamp")
    )
    # Somebody else's controller makes the pods of such a Job, where it makes any.
    return jobs.has_known_pods(job) and not idle and not job["spec"].get("managedBy")


def _place(job: Json) -> tuple[str, str]:
    return job["metadata"]["namespace"], job["metadata"]["name"]


def _trial(job: Json) -> Key:
    return Key("Trial", *_place(job))
