# SPDX-License-Identifier: Apache-2.0
"""What a cluster does to jobs besides running them, and what an attempt's state then says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from cluster_client import Json
from cluster_transport import account_with_all_rights, transport_to
from cluster_trials import job_of, trial_run
from control_plane import API_SERVER
from fake_kubelet import FakeKubelet
from running_cluster import Cluster

from tunesmith_controller.ports import (
    Invalid,
    JobLost,
    JobPresent,
    JobState,
    JobWaiting,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.stores.rest_transport import (
    ApiReply,
    ApiRequest,
    ApiStream,
    ApiTransport,
)
from tunesmith_controller.workloads.cluster import KubernetesWorkloads
from tunesmith_controller.workloads.testing import has_succeeded, is_over, is_running, until

pytestmark = pytest.mark.integration

_NUMBERS = itertools.count(1)
SECONDS = 30.0
ATTEMPT = "tunesmith.dev/attempt"


@dataclass
class Place:
    """A namespace of a cluster."""

    cluster: Cluster
    namespace: str

    def run(self, *command: str, job: Json | None = None, **spec: object) -> TrialRun:
        name = f"experiment-{next(_NUMBERS):08d}"
        return trial_run(
            self.cluster, self.namespace, name, job or job_of(*(command or ("wait",)), spec=spec)
        )

    def path(self, run: TrialRun) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{run.trial.name}"

    def job(self, run: TrialRun) -> Json:
        return self.cluster.api.request("GET", self.path(run))

    def pods(self) -> list[Json]:
        found = self.cluster.api.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        items: list[Json] = found["items"]
        return items

    def wait_for_pod(self) -> Json:
        self.cluster.wait_until(self.pods, "a pod", 20)
        return self.pods()[0]

    def say_of_pod(self, pod: Json, status: Json) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.cluster.api.request("PATCH", path, {"status": status})

    def create(self, path: str, body: Json) -> Json:
        return self.cluster.api.request("POST", path, body)


@pytest.fixture
def place(api_cluster: Cluster) -> Iterator[Place]:
    namespace = api_cluster.namespace_of_test()
    yield Place(api_cluster, namespace)
    api_cluster.delete_namespace(namespace)


@asynccontextmanager
async def opened(
    place: Place, token: str = "", transport: ApiTransport | None = None
) -> AsyncIterator[KubernetesWorkloads]:
    own = transport_to(place.cluster, token)
    workloads = KubernetesWorkloads(transport or own)
    try:
        yield workloads
    finally:
        await workloads.aclose()
        await own.aclose()


async def waiting(workloads: KubernetesWorkloads, run: TrialRun, *words: str) -> str:
    """The reason, once it has these words."""
    state = await until(
        workloads,
        run,
        lambda state: isinstance(state, JobWaiting) and all(w in state.reason for w in words),
        SECONDS,
    )
    assert isinstance(state, JobWaiting)
    return state.reason


# ---- costs --------------------------------------------------------------------------------------


def test_the_job_of_a_trial_costs_two_requests_in_its_whole_life(place: Place) -> None:
    token = account_with_all_rights(place.cluster, place.namespace, "counted")
    runs = [place.run("end", "well") for _ in range(20)]

    async def scenario() -> None:
        async with opened(place, token) as workloads:
            await asyncio.gather(*(workloads.ensure(run) for run in runs))
            for run in runs:
                await until(workloads, run, has_succeeded, SECONDS)
                await workloads.release(run)
                await workloads.remove(run.trial_uid)

    with FakeKubelet(place.cluster, place.namespace):
        asyncio.run(scenario())
    user = f"system:serviceaccount:{place.namespace}:counted"
    asked = [entry for entry in place.cluster.audit() if entry["user"]["username"] == user]
    about_jobs = [e["verb"] for e in asked if e.get("objectRef", {}).get("resource") == "jobs"]
    assert about_jobs.count("create") == about_jobs.count("delete") == len(runs)
    constant = {"list": 1, "watch": 1}  # jobs; the same of pods, and one of discovery
    assert len(about_jobs) == 2 * len(runs) + sum(constant.values())
    assert len(asked) <= 2 * len(runs) + 5


# ---- identity -----------------------------------------------------------------------------------


def test_an_object_of_somebody_else_under_the_name_is_told_and_left_alone(place: Place) -> None:
    run = place.run()
    theirs = {**job_of("wait"), "metadata": {"name": run.trial.name}}
    before = place.create(place.path(run).rpartition("/")[0], theirs)

    async def scenario() -> None:
        async with opened(place) as workloads:
            with pytest.raises(Invalid, match=r"has a Job named .* already, not made by"):
                await workloads.ensure(run)
            await workloads.stop(run)
            await workloads.release(run)

    asyncio.run(scenario())
    assert place.job(run)["metadata"]["uid"] == before["metadata"]["uid"]


def test_an_older_attempt_is_gone_with_its_pods_before_the_next_begins(place: Place) -> None:
    first = place.run("wait", terminationGracePeriodSeconds=1)
    second = replace(first, attempt=2)

    async def scenario() -> tuple[JobState, JobState]:
        async with opened(place) as workloads:
            await workloads.ensure(first)
            old = await until(workloads, first, is_running, SECONDS)
            await asyncio.to_thread(place.wait_for_pod)
            with FakeKubelet(place.cluster, place.namespace):
                # As the reconciler does: again and again, until it has begun.
                async with asyncio.timeout(SECONDS):
                    while not isinstance(state := await workloads.ensure(second), JobPresent):
                        assert isinstance(state, JobWaiting)
                        await asyncio.sleep(0.01)
            attempts = {p["metadata"]["annotations"][ATTEMPT] for p in place.pods()}
            assert "1" not in attempts
            assert isinstance(await workloads.observe(first), JobLost)
            return old, state

    old, new = asyncio.run(scenario())
    assert isinstance(old, JobPresent)
    assert isinstance(new, JobPresent)
    assert old.uid != new.uid
    assert place.job(first)["metadata"]["annotations"][ATTEMPT] == "2"


def test_an_answer_that_was_lost_starts_nothing_twice(place: Place) -> None:
    run = place.run()

    async def scenario() -> JobState:
        own = transport_to(place.cluster)
        async with opened(place, transport=LosesAnswers(own)) as workloads:
            with pytest.raises(Unavailable):
                await workloads.ensure(run)
            return await workloads.ensure(run)

    state = asyncio.run(scenario())
    assert isinstance(state, JobPresent)
    assert state.uid == place.job(run)["metadata"]["uid"]


def test_a_job_that_katib_made_for_the_trial_is_its_first_attempt(place: Place) -> None:
    run = place.run()
    owner = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "name": run.trial.name}
    metadata = {
        "name": run.trial.name,
        "labels": {"katib.kubeflow.org/trial": run.trial.name},
        "ownerReferences": [{**owner, "uid": run.trial_uid, "controller": True}],
    }
    made = place.create(
        place.path(run).rpartition("/")[0], {**job_of("wait"), "metadata": metadata}
    )

    async def scenario() -> JobState:
        async with opened(place) as workloads:
            return await workloads.ensure(run)

    state = asyncio.run(scenario())
    assert isinstance(state, JobPresent)
    assert state.uid == made["metadata"]["uid"]


def test_a_job_made_by_a_slower_controller_after_the_stop_is_deleted(place: Place) -> None:
    run = place.run("wait")

    async def scenario() -> None:
        async with opened(place) as slow, opened(place) as workloads:
            await workloads.observe(run)
            await workloads.stop(run)
            await slow.ensure(run)
            async with asyncio.timeout(SECONDS):
                while place.cluster.exists(place.path(run)):
                    await asyncio.sleep(0.05)
                # A pod that the job got in the meantime goes after it.
                while not is_over(await workloads.observe(run)):
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_a_kept_job_outlives_its_release(place: Place) -> None:
    run = replace(place.run("end", "well"), retain=True)

    async def scenario() -> None:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            await until(workloads, run, has_succeeded, SECONDS)
            await workloads.release(run)

    with FakeKubelet(place.cluster, place.namespace):
        asyncio.run(scenario())
    assert not place.job(run)["metadata"].get("deletionTimestamp")


# ---- kinds and rights ---------------------------------------------------------------------------


def test_a_kind_that_is_not_installed_is_named_with_what_brings_it(place: Place) -> None:
    job = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "spec": {}}
    run = place.run(job=job)

    async def scenario() -> None:
        async with opened(place) as workloads:
            await workloads.ensure(run)

    with pytest.raises(Invalid) as refusal:
        asyncio.run(scenario())
    assert str(refusal.value) == (
        "the cluster has no kind PyTorchJob of kubeflow.org/v1: install the Kubeflow training "
        "operator, or use another kind in spec.trialTemplate"
    )


def dances(version: str) -> Json:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "dances.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"kind": "Dance", "plural": "dances"},
            "scope": "Namespaced",
            "versions": [{**served, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def test_a_kind_nobody_knows_runs_and_its_end_is_seen(place: Place) -> None:
    place.cluster.apply(dances("v2"))
    place.cluster.wait_until(
        lambda: place.cluster.exists("/apis/example.org/v2/dances"), "the kind", 20
    )
    run = place.run(job={"apiVersion": "example.org/v2", "kind": "Dance", "spec": {"steps": 3}})
    path = f"/apis/example.org/v2/namespaces/{place.namespace}/dances/{run.trial.name}"

    def danced(state: JobState) -> bool:
        return isinstance(state, JobPresent) and "status" in state.manifest

    async def scenario() -> JobState:
        async with opened(place) as workloads:
            wrong = replace(run, spec={**run.spec, "apiVersion": "example.org/v1"})
            with pytest.raises(Invalid, match=r"or write example.org/v2 in spec.trialTemplate"):
                await workloads.ensure(wrong)
            assert isinstance(await workloads.ensure(run), JobPresent)
            changes = workloads.changed()
            news = asyncio.ensure_future(anext(aiter(changes)))
            await asyncio.sleep(0)
            status = {"status": {"phase": "Danced"}}
            await asyncio.to_thread(place.cluster.api.request, "PATCH", f"{path}/status", status)
            assert await asyncio.wait_for(news, SECONDS) == run.trial
            return await until(workloads, run, danced, SECONDS)

    state = asyncio.run(scenario())
    assert isinstance(state, JobPresent)
    assert state.manifest["status"] == {"phase": "Danced"}
    labels = state.manifest["metadata"]["labels"]
    assert labels["tunesmith.dev/collect"] == "true"


def test_missing_rights_are_named_and_the_trial_goes_on_once_they_are_given(place: Place) -> None:
    token = place.cluster.service_account_token(place.namespace, "poor")
    run = place.run("wait")

    async def scenario() -> str:
        async with opened(place, token) as workloads:
            state = await workloads.ensure(run)
            assert isinstance(state, JobWaiting)
            await asyncio.to_thread(account_with_all_rights, place.cluster, place.namespace, "poor")
            async with asyncio.timeout(SECONDS):
                while not isinstance(await workloads.ensure(run), JobPresent):
                    await asyncio.sleep(0.1)
            return state.reason

    reason = asyncio.run(scenario())
    account = f"the controller's service account {place.namespace}/poor"
    assert f"{account} may not list jobs of API group batch" in reason
    assert 'apiGroups: ["batch"], resources: ["jobs"], verbs: [get, list, watch, create' in reason


def test_a_trial_without_rights_can_be_stopped_and_removed(place: Place) -> None:
    token = place.cluster.service_account_token(place.namespace, "poor")
    run = place.run("wait")

    async def scenario() -> JobState:
        async with opened(place, token) as workloads:
            await workloads.ensure(run)
            await workloads.stop(run)
            state = await workloads.observe(run)
            await workloads.remove(run.trial_uid)
            return state

    assert is_over(asyncio.run(scenario()))


# ---- pods that cannot start ---------------------------------------------------------------------


def quota(name: str, hard: Json) -> Json:
    return {"metadata": {"name": name}, "spec": {"hard": hard}}


def test_a_quota_of_jobs_is_a_reason(place: Place) -> None:
    quotas = f"/api/v1/namespaces/{place.namespace}/resourcequotas"
    place.create(quotas, quota("no-jobs", {"count/jobs.batch": "0"}))
    run = place.run("wait")

    async def scenario() -> str:
        async with opened(place) as workloads:
            async with asyncio.timeout(SECONDS):  # the quota takes a moment to be counted
                while not isinstance(state := await workloads.ensure(run), JobWaiting):
                    await workloads.release(run)
            return state.reason

    assert "exceeded quota: no-jobs" in asyncio.run(scenario())


def test_a_quota_of_pods_is_a_reason_within_half_a_minute(place: Place) -> None:
    quotas = f"/api/v1/namespaces/{place.namespace}/resourcequotas"
    place.create(quotas, quota("no-pods", {"pods": "0"}))
    run = place.run("wait")

    async def scenario() -> str:
        async with opened(place) as workloads:
            changes = workloads.changed()
            news = asyncio.ensure_future(anext(aiter(changes)))
            await workloads.ensure(run)
            reason = await waiting(workloads, run, "exceeded quota: no-pods")
            news.cancel()
            return reason

    assert asyncio.run(scenario()).startswith("its job has no pod, FailedCreate")


UNSTARTED = {
    "phase": "Pending",
    "containerStatuses": [
        {
            "name": "main",
            "ready": False,
            "restartCount": 0,
            "image": "none",
            "imageID": "",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
        }
    ],
}
UNSCHEDULED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
        }
    ],
}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (UNSTARTED, ("container main of pod", "ImagePullBackOff: no such image")),
        (UNSCHEDULED, ("is not scheduled: 0/3 nodes are available",)),
    ],
    ids=["image", "node"],
)
def test_a_pod_that_cannot_start_is_a_reason_that_is_announced(
    place: Place, status: Json, words: tuple[str, ...]
) -> None:
    run = place.run("wait")

    async def scenario() -> None:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            pod = await asyncio.to_thread(place.wait_for_pod)
            changes = workloads.changed()
            news = asyncio.ensure_future(_announced(workloads, changes, run, words))
            await asyncio.sleep(0)
            await asyncio.to_thread(place.say_of_pod, pod, status)
            await asyncio.wait_for(news, SECONDS)
            with FakeKubelet(place.cluster, place.namespace):
                await until(workloads, run, is_running, SECONDS)

    asyncio.run(scenario())


async def _announced(
    workloads: KubernetesWorkloads,
    changes: AsyncIterator[object],
    run: TrialRun,
    words: tuple[str, ...],
) -> None:
    async for key in changes:
        state = await workloads.observe(run)
        if key == run.trial and isinstance(state, JobWaiting):
            assert all(word in state.reason for word in words), state
            return


# ---- ends from outside --------------------------------------------------------------------------


def test_a_job_that_is_deleted_by_hand_is_lost(place: Place) -> None:
    run = place.run("wait")

    async def scenario() -> JobState:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            await until(workloads, run, is_running, SECONDS)
            await asyncio.to_thread(
                place.cluster.kubectl, "delete", "job", run.trial.name, "-n", place.namespace
            )
            return await until(workloads, run, is_over, SECONDS)

    assert asyncio.run(scenario()) == JobLost("its job was deleted")


def test_the_end_of_a_job_that_is_deleted_at_once_is_not_lost(place: Place) -> None:
    run = place.run("end", "well", ttlSecondsAfterFinished=0)

    async def scenario() -> tuple[JobState, JobState]:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            ended = await until(workloads, run, is_over, SECONDS)
            async with asyncio.timeout(SECONDS):
                while await asyncio.to_thread(place.cluster.exists, place.path(run)):
                    await asyncio.sleep(0.05)
            return ended, await until(workloads, run, has_succeeded, SECONDS)

    with FakeKubelet(place.cluster, place.namespace):
        ended, later = asyncio.run(scenario())
    assert has_succeeded(ended)
    assert has_succeeded(later)


def test_an_evicted_pod_loses_the_attempt_and_fails_nobody(place: Place) -> None:
    run = place.run("nothing")
    evicted = {
        "phase": "Failed",
        "reason": "Evicted",
        "conditions": [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
        ],
    }

    async def scenario() -> JobState:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            pod = await asyncio.to_thread(place.wait_for_pod)
            await asyncio.to_thread(place.say_of_pod, pod, evicted)
            return await until(workloads, run, is_over, SECONDS)

    state = asyncio.run(scenario())
    assert isinstance(state, JobLost)
    assert "EvictionByEvictionAPI: Eviction API: evicting" in state.reason


def test_what_happens_while_the_api_server_restarts_is_seen_afterwards(place: Place) -> None:
    run = place.run("wait")

    async def scenario() -> JobState:
        async with opened(place) as workloads:
            await workloads.ensure(run)
            await asyncio.to_thread(place.cluster.kill, API_SERVER)
            await asyncio.to_thread(place.cluster.start, API_SERVER)
            await asyncio.to_thread(
                place.cluster.kubectl, "delete", "job", run.trial.name, "-n", place.namespace
            )
            return await until(workloads, run, is_over, SECONDS)

    assert isinstance(asyncio.run(scenario()), JobLost)


class LosesAnswers:
    """Passes everything on, and loses the answer to the first create."""

    def __init__(self, inner: ApiTransport) -> None:
        self._inner = inner
        self._lost = False

    async def request(self, request: ApiRequest) -> ApiReply:
        reply = await self._inner.request(request)
        if request.method == "POST" and not self._lost:
            self._lost = True
            raise Unavailable("the connection broke")
        return reply

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        return await self._inner.stream(request, silence_s=silence_s)
