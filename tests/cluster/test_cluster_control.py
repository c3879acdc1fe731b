# SPDX-License-Identifier: Apache-2.0
"""Experiments controlled in a real cluster's API: real suggestion and observation services, real
objects and jobs; only that the jobs' pods never run."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from completed_jobs import MANAGER, CompletedJobs
from running_cluster import Cluster, free_ports

from tunesmith_controller.cluster import ClusterSettings, LeadershipLost, control_cluster
from tunesmith_controller.manager.election import ElectionSettings
from tunesmith_controller.ports import Json, Key, NotFound
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport
from tunesmith_controller.stores.rest import RestStore
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
ENDS = ("Succeeded", "Failed")
SOON = ElectionSettings(duration_s=3, renew_s=2.0, retry_s=0.5)


@pytest.fixture(scope="module")
def server(api_cluster: Cluster) -> Cluster:
    api_cluster.apply(ROOT / "deploy" / "crds")
    for plural in ("experiments", "suggestions", "trials"):
        path = f"/apis/kubeflow.org/v1beta1/{plural}"
        api_cluster.wait_until(lambda path=path: api_cluster.exists(path), path)  # type: ignore[misc]
    if not api_cluster.exists("/api/v1/namespaces/kubeflow"):
        api_cluster.create_namespace("kubeflow")
    return api_cluster


class Services:
    """The suggestion and the observation service, as processes on Unix sockets."""

    def __init__(self, folder: Path) -> None:
        self.suggestions = f"unix:{folder}/s.sock"
        self.observations = f"unix:{folder}/o.sock"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        database = f"sqlite:///{self._folder}/rows.db"
        for words in (
            ("tunesmith_suggestion", "--listen", self.suggestions),
            ("tunesmith_observation", "--listen", self.observations, "--db", database),
        ):
            self._processes.append(subprocess.Popen([sys.executable, "-m", *words]))
        deadline = time.monotonic() + 30
        while not all((self._folder / f"{name}.sock").exists() for name in "so"):
            assert time.monotonic() < deadline, "the services do not come up"
            time.sleep(0.05)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(timeout=10)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    found = Services(tmp_path_factory.mktemp("services"))
    found.start()
    yield found
    found.end()


def settings(services: Services, replica: str = "a") -> ClusterSettings:
    return ClusterSettings(
        suggestions=services.suggestions,
        observations=services.observations,
        probe_host="127.0.0.1",
        probe_ports=tuple(free_ports(1)),
        replica=replica,
        election=SOON,
    )


def experiment(name: str, namespace: str, **spec: Any) -> Json:
    """As a person writes it: no defaults."""
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "managedBy": MANAGER,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {
                            "name": "main",
                            "image": "none",
                            "command": ["train", "--x=${trialParameters.x}"],
                        }
                    ],
                }
            },
        },
    }
    body: Json = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {
                "algorithmName": "random",
                "algorithmSettings": [{"name": "random_state", "value": "7"}],
            },
            "parameters": [
                {
                    "name": "x",
                    "parameterType": "double",
                    "feasibleSpace": {"min": "-5", "max": "5"},
                }
            ],
            "maxTrialCount": 12,
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": "x", "reference": "x"}],
                "trialSpec": job,
            },
        },
    }
    body["spec"].update(spec)
    return body


def loss(job: Json) -> dict[str, float]:
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    words = [word for word in command if word.startswith("--x=")]
    return {"loss": (float(words[0].removeprefix("--x=")) - 1.0) ** 2}


class Hand:
    """A person's hands on the cluster, within a scenario."""

    def __init__(self, server: Cluster, services: Services, jobs: CompletedJobs) -> None:
        self.server = server
        self.services = services
        self.jobs = jobs
        self.transport = KubernetesTransport.from_config(str(server.kubeconfig))
        self.store = RestStore(self.transport)

    async def until(self, key: Key, check: Callable[[Json], bool], seconds: float = 60.0) -> Json:
        found: Json = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.store.get(key)
                    if check(found):
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {found.get('status')}") from None

    async def ended(self, name: str, namespace: str) -> Json:
        return await self.until(Key("Experiment", namespace, name), lambda obj: state(obj) in ENDS)

    async def trials(self, namespace: str) -> list[Json]:
        return (await self.store.list("Trial", namespace=namespace)).items


def state(obj: Json) -> str:
    conditions = obj.get("status", {}).get("conditions") or [{"type": ""}]
    return str(conditions[-1]["type"])


@asynccontextmanager
async def controlled(
    server: Cluster, services: Services, *replicas: str
) -> AsyncIterator[tuple[Hand, dict[str, asyncio.Task[None]]]]:
    """With jobs that end by themselves, and a controller for each name."""
    channel = open_channel(services.observations)
    transport = KubernetesTransport.from_config(str(server.kubeconfig))
    jobs = CompletedJobs(transport, GrpcObservationLog(channel), loss)
    ending = asyncio.create_task(jobs.run())
    hand = Hand(server, services, jobs)
    own = [KubernetesTransport.from_config(str(server.kubeconfig)) for _ in replicas]
    controllers = {
        name: asyncio.create_task(control_cluster(settings(services, name), each))
        for name, each in zip(replicas, own, strict=True)
    }
    try:
        yield hand, controllers
    finally:
        for task in (*controllers.values(), ending):
            task.cancel()
        ended = await asyncio.gather(ending, *controllers.values(), return_exceptions=True)
        if isinstance(ended[0], Exception):
            raise ended[0]  # no test can mean that
        for each in (*own, transport, hand.transport):
            await each.aclose()
        await channel.close()


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(150):
            await scenario

    asyncio.run(bounded())


def test_an_experiment_as_katibs_users_write_it_succeeds(
    server: Cluster, services: Services
) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, _):
            await hand.store.create(experiment("twelve", namespace))
            found = await hand.ended("twelve", namespace)
            assert state(found) == "Succeeded"
            status = found["status"]
            assert (status["trials"], status["trialsSucceeded"]) == (12, 12)
            trials = await hand.trials(namespace)
            best = min(
                trials,
                key=lambda obj: float(obj["status"]["observation"]["metrics"][0]["latest"]),
            )
            assert status["currentOptimalTrial"]["bestTrialName"] == best["metadata"]["name"]
            points = {obj["spec"]["parameterAssignments"][0]["value"] for obj in trials}
            assert len(points) == len(hand.jobs.ended) == 12

    run(scenario())


def test_deletion_leaves_nothing_behind(server: Cluster, services: Services) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, _):
            template = experiment("gone", namespace)["spec"]["trialTemplate"]
            kept = {**template, "retain": True}
            await hand.store.create(experiment("gone", namespace, trialTemplate=kept))
            await hand.ended("gone", namespace)
            await hand.store.delete(Key("Experiment", namespace, "gone"))
            async with asyncio.timeout(60):
                for path in (
                    "apis/kubeflow.org/v1beta1/namespaces/{}/experiments",
                    "apis/kubeflow.org/v1beta1/namespaces/{}/suggestions",
                    "apis/kubeflow.org/v1beta1/namespaces/{}/trials",
                    "apis/batch/v1/namespaces/{}/jobs",
                ):
                    where = "/" + path.format(namespace)
                    while server.api.request("GET", where)["items"]:
                        await asyncio.sleep(0.2)

    run(scenario())


def test_a_faulty_experiment_fails_with_a_reason_and_an_event_and_no_other_notices(
    server: Cluster, services: Services
) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, _):
            bad = experiment("bad", namespace, algorithm={"algorithmName": "no-such"})
            await hand.store.create(bad)
            await hand.store.create(experiment("good", namespace, maxTrialCount=3))
            assert state(await hand.ended("good", namespace)) == "Succeeded"
            found = await hand.ended("bad", namespace)
            last = found["status"]["conditions"][-1]
            assert last["reason"] == "ExperimentRefused" and "no-such" in last["message"]
            async with asyncio.timeout(20):
                path = f"/api/v1/namespaces/{namespace}/events"
                while not (events := told(server, path, "bad")):
                    await asyncio.sleep(0.1)
            assert events[0]["firstTimestamp"]

    run(scenario())


def told(server: Cluster, path: str, name: str) -> list[Json]:
    items = server.api.request("GET", path)["items"]
    return [item for item in items if item["involvedObject"]["name"] == name]


def test_a_kind_that_is_not_installed_is_named(server: Cluster, services: Services) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, _):
            body = experiment("ray", namespace, maxTrialCount=1, parallelTrialCount=1)
            body["spec"]["trialTemplate"] |= {
                "trialSpec": {
                    "apiVersion": "ray.io/v1",
                    "kind": "RayJob",
                    "spec": {"entrypoint": "train --x=${trialParameters.x}"},
                },
                "successCondition": 'status.[@this].#(jobStatus=="SUCCEEDED")#',
                "failureCondition": 'status.[@this].#(jobDeploymentStatus=="Failed")#',
            }
            await hand.store.create(body)
            await hand.ended("ray", namespace)
            (trial,) = await hand.trials(namespace)
            last = trial["status"]["conditions"][-1]
            assert last["type"] == "Failed"
            assert "RayJob" in last["message"] and "ray.io/v1" in last["message"]

    run(scenario())


def test_a_larger_budget_goes_on_with_a_finished_experiment(
    server: Cluster, services: Services
) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, _):
            body = experiment("more", namespace, maxTrialCount=3, resumePolicy="LongRunning")
            await hand.store.create(body)
            await hand.ended("more", namespace)
            key = Key("Experiment", namespace, "more")
            await hand.store.patch(key, {"spec": {"maxTrialCount": 5}})
            found = await hand.until(
                key,
                lambda obj: state(obj) == "Succeeded" and obj["status"].get("trials") == 5,
            )
            assert found["status"]["trialsSucceeded"] == 5

    run(scenario())


def test_a_killed_leader_is_replaced_and_nothing_is_done_twice(
    server: Cluster, services: Services
) -> None:
    namespace = server.namespace_of_test()

    async def scenario() -> None:
        async with controlled(server, services, "a", "b") as (hand, controllers):
            await hand.store.create(experiment("handed-over", namespace, maxTrialCount=30))
            key = Key("Experiment", namespace, "handed-over")
            await hand.until(key, lambda obj: obj.get("status", {}).get("trialsSucceeded", 0) > 5)
            lease = await hand.store.get(Key("Lease", "kubeflow", "tunesmith-controller"))
            leader = lease["spec"]["holderIdentity"]
            controllers[leader].cancel()
            found = await hand.ended("handed-over", namespace)
            assert found["status"]["trialsSucceeded"] == 30
            assert len(hand.jobs.ended) == len(set(hand.jobs.ended)) == 30

    run(scenario())


def test_a_controller_without_its_lease_stops_and_says_so(
    server: Cluster, services: Services
) -> None:
    async def scenario() -> None:
        async with controlled(server, services, "a") as (hand, controllers):
            key = Key("Lease", "kubeflow", "tunesmith-controller")
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(NotFound):
                        if (await hand.store.get(key))["spec"]["holderIdentity"] == "a":
                            break
                    await asyncio.sleep(0.1)
            await hand.store.patch(key, {"spec": {"holderIdentity": "somebody"}})
            with pytest.raises(ExceptionGroup) as group:
                await asyncio.wait_for(controllers["a"], 30)
            assert group.group_contains(LeadershipLost)
            await hand.store.delete(key)

    run(scenario())
