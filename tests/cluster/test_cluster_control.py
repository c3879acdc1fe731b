# SPDX-License-Identifier: Apache-2.0
"""Experiments in a real cluster's API, from their creation to their deletion; leaders that die."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from controlled_cluster import Services, controlled, experiment, run, state, told
from running_cluster import Cluster

from tunesmith_controller.cluster import LeadershipLost
from tunesmith_controller.ports import Key, NotFound

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def test_an_experiment_as_katibs_users_write_it_succeeds(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
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


def test_deletion_leaves_nothing_behind(katib_cluster: Cluster, services: Services) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
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
                    while katib_cluster.api.request("GET", where)["items"]:
                        await asyncio.sleep(0.2)

    run(scenario())


def test_a_faulty_experiment_fails_with_a_reason_and_an_event_and_no_other_notices(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
            bad = experiment("bad", namespace, algorithm={"algorithmName": "no-such"})
            await hand.store.create(bad)
            await hand.store.create(experiment("good", namespace, maxTrialCount=3))
            assert state(await hand.ended("good", namespace)) == "Succeeded"
            found = await hand.ended("bad", namespace)
            last = found["status"]["conditions"][-1]
            assert last["reason"] == "ExperimentRefused" and "no-such" in last["message"]
            async with asyncio.timeout(20):
                path = f"/api/v1/namespaces/{namespace}/events"
                while not (events := told(katib_cluster, path, "bad")):
                    await asyncio.sleep(0.1)
            assert events[0]["firstTimestamp"]

    run(scenario())


def test_a_kind_that_is_not_installed_is_named(katib_cluster: Cluster, services: Services) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
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
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
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
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a", "b") as (hand, controllers):
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
    katib_cluster: Cluster, services: Services
) -> None:
    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, controllers):
            key = Key("Lease", "kubeflow", "tunesmith-controller")
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(NotFound):
                        if (await hand.store.get(key))["spec"]["holderIdentity"] == "a":
                            break
                    await asyncio.sleep(0.1)
            await hand.store.patch(key, {"spec": {"holderIdentity": "somebody"}})
            with pytest.raises(LeadershipLost):
                await asyncio.wait_for(controllers["a"], 30)
            await hand.store.delete(key)

    run(scenario())
