# SPDX-License-Identifier: Apache-2.0
"""Objects as Katib leaves them: a controller of ours goes on with them and repeats nothing."""

from __future__ import annotations

import asyncio

import katib_objects as katib
import pytest
from completed_jobs import complete
from controlled_cluster import Hand, Services, controlled, run, state
from katib_leftovers import Left, job_spec, suggestion_service
from running_cluster import Cluster

from tunesmith_api.metrics import KATIB_SOURCE, Row
from tunesmith_api.observations import Report, SourceKey
from tunesmith_controller.manager.manager import ManagerSettings
from tunesmith_controller.ports import Json, Key
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

QUICK = ManagerSettings(metrics_grace_s=2.0, sweeps=True, status_every_s=0.2, remembers=True)


async def reported(services: Services, trial: Json, value: str) -> None:
    """As the service keeps what Katib's collector reports, once it knows whose pod that is."""
    metadata = trial["metadata"]
    key = SourceKey(metadata["uid"], 1, KATIB_SOURCE)
    rows = [Row(0, "loss", value)]
    async with open_channel(services.observations) as channel:
        log = GrpcObservationLog(channel)
        await log.append(Report(key, rows, 0, metadata["name"], metadata["namespace"]))


def jobs_of(hand: Hand, namespace: str) -> list[str]:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    return sorted(
        each["metadata"]["name"] for each in hand.server.api.request("GET", path)["items"]
    )


def test_a_running_experiment_of_katibs_goes_on_and_repeats_nothing(
    katib_cluster: Cluster, services: Services
) -> None:
    """Two trials have ended, one runs, one assignment has no Trial yet."""
    namespace = katib_cluster.namespace_of_test()
    left = Left(katib_cluster, namespace)
    points = {f"running-{tail}": f"{n}.5" for n, tail in enumerate(("zz", "aa", "mm", "bb"))}
    top = left.experiment("running", trials=3, succeeded=2, ended=False, maxTrialCount=6)
    left.create("suggestions", katib.suggestion(top, points, ended=False))
    done = {}
    for name, loss in (("running-zz", 4.0), ("running-aa", 3.0), ("running-mm", None)):
        body = katib.trial(top, name, points[name], job_spec(name, namespace), loss)
        done[name] = left.create("trials", body)
    left.job(done["running-mm"])

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a", manager=QUICK) as (hand, _):
            running = Key("Trial", namespace, "running-mm")
            found = await hand.until(running, lambda obj: "jobUID" in str(obj.get("status")))
            assert found["metadata"]["annotations"]["tunesmith.dev/ordinal"] == "2"
            await reported(services, found, "0.125")
            await hand.store.patch(
                Key("Trial", namespace, "running-zz"), {"metadata": {"annotations": {"seen": "1"}}}
            )
            path = f"/apis/batch/v1/namespaces/{namespace}/jobs/running-mm"
            job = katib_cluster.api.request("GET", path)
            katib_cluster.api.request("PUT", f"{path}/status", {**job, "status": complete()})
            top = await hand.ended("running", namespace)
            assert state(top) == "Succeeded"
            trials = {each["metadata"]["name"]: each for each in await hand.trials(namespace)}
            assert len(trials) == 6 and set(points) <= set(trials)
            for name in ("running-zz", "running-aa"):
                kept = trials[name]["status"]
                assert kept["completionTime"] == katib.TIME
                assert kept["observation"] == done[name]["status"]["observation"]
                assert not [each for each in hand.jobs.ended if each == name]
            assert trials["running-mm"]["status"]["observation"]["metrics"][0]["latest"] == "0.125"
            assigned = trials["running-bb"]["spec"]["parameterAssignments"]
            assert assigned == [{"name": "x", "value": "3.5"}]
            ordinals = [
                t["metadata"]["annotations"]["tunesmith.dev/ordinal"] for t in trials.values()
            ]
            assert sorted(ordinals) == list("012345")
            await hand.store.delete(Key("Experiment", namespace, "running"))
            async with asyncio.timeout(60):
                while await hand.trials(namespace) or jobs_of(hand, namespace):
                    await asyncio.sleep(0.2)

    run(scenario())


def test_a_finished_experiment_of_katibs_stays_so_until_its_budget_is_raised(
    katib_cluster: Cluster, services: Services
) -> None:
    namespace = katib_cluster.namespace_of_test()
    left = Left(katib_cluster, namespace)
    points = {f"finished-{n}": f"{n}.5" for n in range(3)}
    top = left.experiment(
        "finished", trials=3, succeeded=3, ended=True, maxTrialCount=3, resumePolicy="LongRunning"
    )
    search = left.create("suggestions", katib.suggestion(top, points, ended=True))
    katib_cluster.apply(suggestion_service(search))
    for name, value in points.items():
        left.create("trials", katib.trial(top, name, value, job_spec(name, namespace), 1.0))

    async def scenario() -> None:
        key = Key("Experiment", namespace, "finished")
        async with controlled(katib_cluster, services, "a", manager=QUICK) as (hand, _):
            for name in points:
                await hand.until(Key("Trial", namespace, name), lambda obj: "ordinal" in str(obj))
            await hand.until(
                Key("Suggestion", namespace, "finished"), lambda obj: "seed" in str(obj["status"])
            )
            deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
            left_over = katib_cluster.api.request("GET", deployments)["items"]
            assert all(each["metadata"].get("deletionTimestamp") for each in left_over)
            await hand.store.patch(key, {"spec": {"maxTrialCount": 5}})
            top = await hand.until(
                key, lambda obj: state(obj) == "Succeeded" and obj["status"]["trialsSucceeded"] == 5
            )
            assert top["status"]["trials"] == 5
            names = {each["metadata"]["name"] for each in await hand.trials(namespace)}
            assert len(names) == 5 and set(points) <= names
            assert not set(hand.jobs.ended) & set(points)

    run(scenario())
