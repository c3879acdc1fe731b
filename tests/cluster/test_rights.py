# SPDX-License-Identifier: Apache-2.0
"""The controller with the rights of an installation and no others: it needs all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from cluster_client import Json
from cluster_programs import Tier, require
from completed_jobs import CompletedJobs
from controlled_cluster import Hand, Services, experiment, loss, settings, state
from installed_pods import installed, run_everything
from running_cluster import Cluster, api_tier

from tunesmith.installation.options import CONTROLLER, Installation
from tunesmith.installation.rights import Grant, grants
from tunesmith_controller.cluster import control_cluster
from tunesmith_controller.ports import Key, NotFound
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

HOME, TEAM = "kubeflow", "team"
ME = f"system:serviceaccount:{HOME}:{CONTROLLER}"
JOBS = ("batch", "jobs")

ELSEWHERE = {
    ("", "pods/log", "get"): "rows of a pod that could not report them; on a node",
    ("", "configmaps", "update"): "authorities that change; test_webhooks",
    ("", "events", "list"): "why a pod does not start; on a node",
    ("", "events", "get"): "an event that is there; the recorder's tests",
    ("", "events", "patch"): "an event that happens again; the recorder's tests",
    ("", "persistentvolumeclaims", "get"): "storage that is there already; test_suggestion_hosts",
    ("", "persistentvolumes", "get"): "as above",
    ("batch", "jobs", "get"): "a job whose creation's answer was lost; the workloads' faults",
    ("kubeflow.org", "experiments", "get"): "a write that met another's; the store's contract",
    ("kubeflow.org", "trials", "patch"): "stops that a foreign service writes",
}
"""What this test does not come to."""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with api_tier(require(Tier.API), tmp_path_factory.mktemp("rights-cluster")) as found:
        for name in (HOME, TEAM):
            found.create_namespace(name)
        yield found


def granted(only: str | None) -> set[tuple[str, str, str]]:
    """Of the controller, as (group, resource, verb); of kinds of jobs the one that every cluster
    has."""
    wanted = Installation(HOME, only=only)
    mine = [grant for grant in grants(wanted) if grant.account == CONTROLLER]
    found = {triple for grant in mine for triple in _triples(grant)}
    kinds = [grant for grant in mine if grant.role == "tunesmith-trial-kinds"]
    others = {triple for grant in kinds for triple in _triples(grant) if triple[:2] != JOBS}
    return found - others


def _triples(grant: Grant) -> set[tuple[str, str, str]]:
    return {
        (right.group, resource, verb)
        for right in grant.rights
        for resource in right.resources
        for verb in right.verbs
    }


def asked(cluster: Cluster, *, refused: bool) -> set[tuple[str, str, str]]:
    """What the controller asked the API server for, by its audit log."""
    return {
        (ref.get("apiGroup", ""), "/".join(filter(None, (ref["resource"], sub))), entry["verb"])
        for entry in cluster.audit()
        if entry["user"]["username"] == ME
        and (ref := entry.get("objectRef"))
        and (sub := ref.get("subresource", "")) is not None
        and (entry.get("responseStatus", {}).get("code") == 403) is refused
    }


def foreign_algorithm(cluster: Cluster, whole: bool) -> None:
    """katib-config names an image, whose service has a volume of its own. whole: one that the
    administrator did not make; those belong to no namespace."""
    volume = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/nowhere"},
    }
    own = {"persistentVolumeSpec": volume} if whole else {}
    entry = {"algorithmName": "foreign", "image": "nobody/foreign:1", **own}
    config = {"apiVersion": "config.kubeflow.org/v1beta1", "kind": "KatibConfig"}
    text = yaml.safe_dump({**config, "runtime": {"suggestions": [entry]}})
    path = f"/api/v1/namespaces/{HOME}/configmaps/katib-config"
    cluster.api.request("PATCH", path, {"data": {"katib-config.yaml": text}})


def templated(name: str) -> tuple[Json, Json]:
    """An Experiment whose template is in a ConfigMap, and that."""
    body = experiment(name, TEAM, maxTrialCount=2, parallelTrialCount=2)
    template = body["spec"]["trialTemplate"]
    text = yaml.safe_dump(template.pop("trialSpec"))
    metadata = {"name": name, "namespace": TEAM}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    template["configMap"] = {
        "configMapName": name,
        "configMapNamespace": TEAM,
        "templatePath": "job.yaml",
    }
    return body, {**config_map, "data": {"job.yaml": text}}


async def life(hand: Hand, cluster: Cluster) -> None:
    """All that people do with experiments."""
    body, config_map = templated("by-config-map")
    await hand.store.create(config_map)
    await hand.store.create(body)
    assert state(await hand.ended("by-config-map", TEAM)) == "Succeeded"
    kept = {"resumePolicy": "LongRunning", "parallelTrialCount": 3}
    await hand.store.create(experiment("plain", TEAM, maxTrialCount=6, **kept))
    key = Key("Experiment", TEAM, "plain")
    await hand.until(key, lambda obj: bool(obj.get("status", {}).get("trials")))
    await hand.store.patch(key, {"spec": {"parallelTrialCount": 1}})
    await hand.ended("plain", TEAM)
    await hand.store.patch(key, {"spec": {"maxTrialCount": 8}})
    await hand.until(key, lambda obj: obj["status"].get("trialsSucceeded") == 8)

    foreign = {"algorithm": {"algorithmName": "foreign"}, "resumePolicy": "FromVolume"}
    await hand.store.create(experiment("foreign", TEAM, **foreign))
    deployments = f"/apis/apps/v1/namespaces/{TEAM}/deployments"
    service = f"/api/v1/namespaces/{TEAM}/services/foreign-foreign"
    deployment = f"{deployments}/foreign-foreign"
    await asyncio.to_thread(
        cluster.wait_until, lambda: cluster.exists(deployment), "its deployment comes", 30
    )
    await asyncio.to_thread(
        cluster.wait_until, lambda: cluster.exists(service), "its service comes", 30
    )
    await asyncio.to_thread(cluster.api.request, "DELETE", deployment)
    await asyncio.to_thread(
        cluster.wait_until, lambda: cluster.exists(deployment), "its deployment comes again", 30
    )
    await hand.store.patch(
        Key("Experiment", TEAM, "foreign"), {"metadata": {"annotations": STOPPED}}
    )
    await hand.ended("foreign", TEAM)
    await asyncio.to_thread(
        cluster.wait_until, lambda: not cluster.exists(service), "its service goes", 30
    )
    for name in ("by-config-map", "plain", "foreign"):
        await hand.store.delete(Key("Experiment", TEAM, name))
        await _gone(hand, Key("Experiment", TEAM, name))
    while await hand.trials(TEAM):
        await asyncio.sleep(0.2)


STOPPED = {"tunesmith.dev/stopped": "true"}


async def _gone(hand: Hand, key: Key) -> None:
    while True:
        try:
            await hand.store.get(key)
        except NotFound:
            return
        await asyncio.sleep(0.1)


async def controlled_by_the_account(cluster: Cluster, services: Services, only: str | None) -> None:
    admin = KubernetesTransport.from_config(str(cluster.kubeconfig))
    account = KubernetesTransport.from_config(str(cluster.kubeconfig_of(HOME, CONTROLLER)))
    channel = open_channel(services.observations)
    jobs = CompletedJobs(admin, GrpcObservationLog(channel), loss)
    hand = Hand(cluster, services, jobs)
    wanted = replace(settings(services), namespace=HOME, only=only)
    work: list[asyncio.Task[Any]] = [
        asyncio.create_task(jobs.run()),
        asyncio.create_task(control_cluster(wanted, account)),
    ]
    try:
        async with asyncio.timeout(150):
            await life(hand, cluster)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for transport in (admin, account, hand.transport):
            await transport.aclose()
        await channel.close()


@pytest.mark.parametrize("only", [None, TEAM], ids=["cluster", "namespaced"])
def test_the_controller_needs_the_rights_that_it_has_and_no_others(
    cluster: Cluster, services: Services, only: str | None
) -> None:
    installed(cluster, "-n", HOME, *(("--only", only) if only else ()))
    run_everything(cluster, HOME, 5, only)  # with certificates by the account
    path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{CONTROLLER}"
    cluster.api.request("DELETE", path)
    foreign_algorithm(cluster, whole=only is None)
    asyncio.run(controlled_by_the_account(cluster, services, only))
    assert asked(cluster, refused=True) == set()
    used, rights = asked(cluster, refused=False), granted(only)
    assert sorted(used - rights) == []
    assert sorted(rights - used - ELSEWHERE.keys()) == []
