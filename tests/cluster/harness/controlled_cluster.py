# SPDX-License-Identifier: Apache-2.0
"""A cluster with a controller for tests: real suggestion and observation services, real objects and
jobs; only that the jobs' pods never run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from completed_jobs import MANAGER, CompletedJobs
from running_cluster import Cluster, free_ports

from tunesmith_controller.cluster import ClusterSettings, control_cluster
from tunesmith_controller.manager.election import ElectionSettings
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport
from tunesmith_controller.stores.rest import RestStore
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

ENDS = ("Succeeded", "Failed")
SOON = ElectionSettings(duration_s=3, renew_s=2.0, retry_s=0.5)


class Services:
    """The suggestion and the observation service, as processes on Unix sockets."""

    def __init__(self, folder: Path) -> None:
        self.suggestions = f"unix:{folder}/s.sock"
        self.observations = f"unix:{folder}/o.sock"
        self.database = f"sqlite:///{folder}/rows.db"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for words in (
            ("tunesmith_suggestion", "--listen", self.suggestions),
            ("tunesmith_observation", "--listen", self.observations, "--db", self.database),
        ):
            self._processes.append(subprocess.Popen([sys.executable, "-m", *words]))
        deadline = time.monotonic() + 30
        while not all((self._folder / f"{name}.sock").exists() for name in "so"):
            assert time.monotonic() < deadline, "the services do not come up"
            time.sleep(0.05)

    def pids(self) -> dict[str, int]:
        """Of the processes, by the service's name."""
        names = ("suggestion service", "observation service")
        return {name: each.pid for name, each in zip(names, self._processes, strict=True)}

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(timeout=10)


def settings(services: Services, replica: str = "a", **changes: Any) -> ClusterSettings:
    usual = ClusterSettings(
        suggestions=services.suggestions,
        observations=services.observations,
        probe_host="127.0.0.1",
        probe_ports=tuple(free_ports(1)),
        replica=replica,
        election=SOON,
    )
    return replace(usual, **changes)


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
    server: Cluster, services: Services, *replicas: str, **changes: Any
) -> AsyncIterator[tuple[Hand, dict[str, asyncio.Task[None]]]]:
    """With jobs that end by themselves, and a controller for each name, with changed settings."""
    channel = open_channel(services.observations)
    transport = KubernetesTransport.from_config(str(server.kubeconfig))
    jobs = CompletedJobs(transport, GrpcObservationLog(channel), loss)
    ending = asyncio.create_task(jobs.run())
    hand = Hand(server, services, jobs)
    own = [KubernetesTransport.from_config(str(server.kubeconfig)) for _ in replicas]
    controllers = {
        name: asyncio.create_task(control_cluster(settings(services, name, **changes), each))
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


def told(server: Cluster, path: str, name: str) -> list[Json]:
    items = server.api.request("GET", path)["items"]
    return [item for item in items if item["involvedObject"]["name"] == name]
