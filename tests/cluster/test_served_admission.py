# SPDX-License-Identifier: Apache-2.0
"""A controller that is its installation's authority: it admits Experiments, and speaks TLS with
services whose certificates it has made."""

from __future__ import annotations

import asyncio
import base64
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_client import Refused
from controlled_cluster import Hand, Services, controlled, experiment, run, state
from running_cluster import Cluster, free_ports

from tunesmith_controller.admission.pods import SIDECAR, InjectionSettings
from tunesmith_controller.cluster import OwnCertificates
from tunesmith_controller.ports import Key
from tunesmith_controller.webhook.configurations import NAME, Reached, webhook_configurations

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LOCAL = "127.0.0.1"
OWN = OwnCertificates(
    {f"tunesmith-{name}": [LOCAL] for name in ("controller", "suggestion", "observation")}
)
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"


@asynccontextmanager
async def installed(
    cluster: Cluster, services: Services, *replicas: str, **changes: Any
) -> AsyncIterator[tuple[Hand, dict[str, asyncio.Task[None]]]]:
    """With webhooks; removed afterwards."""
    [port] = free_ports(1)
    cluster.apply(webhook_configurations(Reached(url=f"https://{LOCAL}:{port}")))
    kept = {"certificates": OWN, "webhook_port": port, **changes}
    try:
        async with controlled(cluster, services, *replicas, **kept) as found:
            yield found
    finally:
        for kind in ("mutating", "validating"):
            path = f"{CONFIGURATIONS}/{kind}webhookconfigurations/{NAME}"
            cluster.api.request("DELETE", path)


async def until_admitted(hand: Hand, namespace: str) -> None:
    """Until a faulty Experiment is refused, which needs the webhook: the API lets it through while
    nobody answers."""
    faulty = experiment("faulty", namespace, maxTrialCount=-1)
    while True:
        try:
            await hand.store.create(faulty)
        except Exception as error:  # noqa: BLE001 - the sentence is what is looked for
            assert "maxTrialCount" in str(error), error
            return
        await hand.store.delete(Key("Experiment", namespace, "faulty"))
        await asyncio.sleep(0.1)


def test_experiments_get_defaults_and_refusals_from_the_api_server(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with installed(katib_cluster, services, "a") as (hand, _):
            async with asyncio.timeout(30):
                await until_admitted(hand, namespace)
            created = await hand.store.create(experiment("fine", namespace))
            assert created["spec"]["parallelTrialCount"] == 3
            assert created["spec"]["resumePolicy"] == "Never"
            with pytest.raises(Refused, match="maxTrialCount"):
                # On a thread: the webhook answers on this loop.
                await asyncio.to_thread(
                    katib_cluster.api.request,
                    "PATCH",
                    f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/experiments/fine",
                    {"spec": {"maxTrialCount": -3}},
                )

    run(scenario())


def test_pods_of_trials_get_their_collector_and_no_others(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()
    injection = InjectionSettings("test.local/tunesmith:1")
    path = f"/api/v1/namespaces/{namespace}/pods"

    async def scenario() -> None:
        async with installed(katib_cluster, services, "a", injection=injection) as (hand, _):
            async with asyncio.timeout(30):
                await until_admitted(hand, namespace)
            await asyncio.to_thread(katib_cluster.api.request, "POST", path, pod("other"))
            marked = pod("trial")
            marked["metadata"]["labels"] = {"tunesmith.dev/collect": "true"}
            marked["metadata"]["annotations"] = {
                "tunesmith.dev/collection": '{"trialName":"t","namespace":"n","trialUid":"u",'
                '"attempt":1,"primaryContainer":"main"}'
            }
            await asyncio.to_thread(katib_cluster.api.request, "POST", path, marked)

    run(scenario())

    other, trial = (
        katib_cluster.api.request("GET", f"{path}/{name}") for name in ("other", "trial")
    )
    assert "initContainers" not in other["spec"]
    assert [each["name"] for each in trial["spec"]["initContainers"]] == [SIDECAR]


def pod(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": "none", "command": ["train"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container]},
    }


def test_what_was_made_while_no_webhook_answered_is_admitted_by_the_controller(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()
    [nobody] = free_ports(1)
    katib_cluster.apply(webhook_configurations(Reached(url=f"https://{LOCAL}:{nobody}")))
    path = f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/experiments"
    katib_cluster.api.request("POST", path, experiment("fine", namespace, maxTrialCount=3))
    katib_cluster.api.request("POST", path, experiment("faulty", namespace, maxTrialCount=-1))

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
            assert state(await hand.ended("fine", namespace)) == "Succeeded"
            refused = await hand.ended("faulty", namespace)
            assert "maxTrialCount" in refused["status"]["conditions"][-1]["message"]

    try:
        run(scenario())
    finally:
        for kind in ("mutating", "validating"):
            where = f"{CONFIGURATIONS}/{kind}webhookconfigurations/{NAME}"
            katib_cluster.api.request("DELETE", where)


class EncryptedServices(Services):
    """On loopback ports, with the certificates that the controller makes, and the database of
    others who let rows in without encryption."""

    def __init__(self, folder: Path, others: Services) -> None:
        super().__init__(folder)
        self.folder, self.database = folder, others.database
        suggestion, observation = free_ports(2)
        self.suggestions = f"{LOCAL}:{suggestion}"
        self.observations = f"{LOCAL}:{observation}"

    async def start_with(self, cluster: Cluster) -> None:
        for name, address, more in (
            ("suggestion", self.suggestions, ()),
            ("observation", self.observations, ("--db", self.database)),
        ):
            certificate, key = await self._files(cluster, f"tunesmith-{name}")
            words = ["--listen", address, "--tls-cert", certificate, "--tls-key", key, *more]
            argv = [sys.executable, "-m", f"tunesmith_{name}", *words]
            self._processes.append(await asyncio.to_thread(subprocess.Popen, argv))
        for address in (self.suggestions, self.observations):
            await until_open(address)

    async def _files(self, cluster: Cluster, service: str) -> list[str]:
        path = f"/api/v1/namespaces/kubeflow/secrets/{service}-tls"
        while not cluster.exists(path):
            await asyncio.sleep(0.1)
        data = cluster.api.request("GET", path)["data"]
        files = [self.folder / f"{service}.{end}" for end in ("crt", "key")]
        for file in files:
            file.write_bytes(base64.b64decode(data[f"tls{file.suffix}"]))
        return [str(file) for file in files]


async def until_open(address: str) -> None:
    host, _, port = address.rpartition(":")
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        await asyncio.sleep(0.1)


def test_an_experiment_runs_over_tls_with_certificates_of_our_own(
    katib_cluster: Cluster, services: Services, tmp_path: Path
) -> None:
    namespace = katib_cluster.namespace_of_test()
    encrypted = EncryptedServices(tmp_path, services)

    async def scenario() -> None:
        places = {"suggestions": encrypted.suggestions, "observations": encrypted.observations}
        changes = {"certificates": OWN, **places}
        async with controlled(katib_cluster, services, "a", **changes) as (hand, _):
            async with asyncio.timeout(60):
                await encrypted.start_with(katib_cluster)
            await hand.store.create(experiment("three", namespace, maxTrialCount=3))
            assert state(await hand.ended("three", namespace)) == "Succeeded"

    try:
        run(scenario())
    finally:
        encrypted.end()
