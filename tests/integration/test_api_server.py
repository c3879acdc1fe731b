# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes-shaped API over a real store and a real socket, asked as its clients ask."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import given
import httpx
import pytest

from tunesmith_api import names
from tunesmith_controller.apiserver.address import ApiAddress, find_api
from tunesmith_controller.apiserver.server import ApiOptions, serve_api
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Unavailable

KATIB = "/apis/kubeflow.org/v1beta1/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[tuple[LocalPlane, httpx.AsyncClient]]:
    async with LocalPlane.open(home) as plane:
        serving = asyncio.ensure_future(serve_api(plane, ApiOptions()))
        address = await address_of(home, serving)
        headers = {"Authorization": f"Bearer {address.token}"}
        async with httpx.AsyncClient(base_url=address.url, headers=headers, timeout=10) as client:
            try:
                yield plane, client
            finally:
                serving.cancel()
                await asyncio.wait([serving], timeout=5)
                assert serving.done()


async def address_of(home: Path, serving: asyncio.Future[None]) -> ApiAddress:
    async with asyncio.timeout(10):
        while (found := find_api(home)) is None:
            assert not serving.done(), serving
            await asyncio.sleep(0.01)
    return found


Scenario = Callable[[LocalPlane, httpx.AsyncClient], Coroutine[Any, Any, None]]


def run(home: Path, scenario: Scenario) -> None:
    async def all_of_it() -> None:
        async with served(home) as (plane, client):
            await scenario(plane, client)

    asyncio.run(asyncio.wait_for(all_of_it(), 60))


def an_experiment(name: str = "quick", **spec: Any) -> Json:
    """As a client sends it: without defaults, uid and status."""
    body = given.experiment(name).json()
    body["metadata"] = {"name": name}
    del body["spec"]["resumePolicy"], body["spec"]["metricsCollectorSpec"]
    return {**body, "spec": {**body["spec"], **spec}, "status": {}}


def a_trial(ordinal: int, state: str = "Running") -> Json:
    body = given.trial(ordinal, state, job_uid=f"job-{ordinal}").json()
    for field in ("uid", "resourceVersion", "ownerReferences", "finalizers"):
        body["metadata"].pop(field, None)
    return body


# ---- objects ------------------------------------------------------------------------------------


def test_an_experiment_is_created_with_defaults_and_read_back(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        made = await client.post(f"{KATIB}/experiments", json=an_experiment())
        assert made.status_code == 201, made.text
        assert made.json()["spec"]["resumePolicy"] == "Never"
        assert made.json()["metadata"]["uid"]
        read = await client.get(f"{KATIB}/experiments/quick")
        assert read.json() == made.json()
        listed = (await client.get(f"{KATIB}/experiments")).json()
        assert listed["kind"] == "ExperimentList"
        assert [obj["metadata"]["name"] for obj in listed["items"]] == ["quick"]
        everywhere = await client.get("/apis/kubeflow.org/v1beta1/experiments")
        assert len(everywhere.json()["items"]) == 1

    run(tmp_path, scenario)


def test_what_admission_refuses_names_every_field(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        bad = an_experiment(parallelTrialCount=0, maxTrialCount=-1)
        refused = await client.post(f"{KATIB}/experiments", json=bad)
        assert refused.status_code == 422
        status = refused.json()
        assert (status["kind"], status["reason"]) == ("Status", "Invalid")
        fields = {cause["field"] for cause in status["details"]["causes"]}
        assert {"spec.parallelTrialCount", "spec.maxTrialCount"} <= fields
        assert (await client.get(f"{KATIB}/experiments")).json()["items"] == []

    run(tmp_path, scenario)


def test_a_taken_name_and_an_unknown_one(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        await client.post(f"{KATIB}/experiments", json=an_experiment())
        again = await client.post(f"{KATIB}/experiments", json=an_experiment())
        assert (again.status_code, again.json()["reason"]) == (409, "AlreadyExists")
        absent = await client.get(f"{KATIB}/experiments/other")
        assert (absent.status_code, absent.json()["reason"]) == (404, "NotFound")

    run(tmp_path, scenario)


def test_a_generated_name_and_a_dry_run(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        body = an_experiment()
        body["metadata"] = {"generateName": "try-"}
        made = await client.post(f"{KATIB}/experiments", json=body)
        assert made.json()["metadata"]["name"].startswith("try-")
        dry = await client.post(f"{KATIB}/experiments?dryRun=All", json=an_experiment("dry"))
        assert dry.status_code == 201
        assert (await client.get(f"{KATIB}/experiments/dry")).status_code == 404

    run(tmp_path, scenario)


def test_katibs_budget_edit_sends_the_whole_object_and_changes_only_counts(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        made = (await client.post(f"{KATIB}/experiments", json=an_experiment())).json()
        sent = {**made, "spec": {**made["spec"], "maxTrialCount": 9}, "status": {"trials": 77}}
        sent["metadata"] = {**made["metadata"], "creationTimestamp": "2020-01-01T00:00:00+00:00"}
        patched = await client.patch(
            f"{KATIB}/experiments/quick", content=json.dumps(sent), headers=MERGE
        )
        assert patched.status_code == 200, patched.text
        now = patched.json()
        assert now["spec"] == {**made["spec"], "maxTrialCount": 9}
        assert now["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
        assert "trials" not in now.get("status", {})
        stale = await client.patch(
            f"{KATIB}/experiments/quick", content=json.dumps(sent), headers=MERGE
        )
        assert (stale.status_code, stale.json()["reason"]) == (409, "Conflict")

    run(tmp_path, scenario)


def test_what_cannot_be_changed_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        await client.post(f"{KATIB}/experiments", json=an_experiment())
        patch = {"spec": {"algorithm": {"algorithmName": "tpe"}}}
        refused = await client.patch(
            f"{KATIB}/experiments/quick", content=json.dumps(patch), headers=MERGE
        )
        assert refused.status_code == 422
        assert "spec.algorithm" in refused.json()["message"]

    run(tmp_path, scenario)


def test_an_annotation_is_patched_while_the_status_is_being_written(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        await client.post(f"{KATIB}/experiments", json=an_experiment())
        pause = {"metadata": {"annotations": {names.ANNOTATION_PAUSED: "true"}}}

        async def statuses() -> None:
            for count in range(30):
                status = {"status": {"trials": count}}
                path = f"{KATIB}/experiments/quick/status"
                found = await client.patch(path, content=json.dumps(status), headers=MERGE)
                assert found.status_code == 200

        async def pauses() -> None:
            for _ in range(10):
                path = f"{KATIB}/experiments/quick"
                found = await client.patch(path, content=json.dumps(pause), headers=MERGE)
                assert found.status_code == 200, found.text

        await asyncio.gather(statuses(), pauses())
        now = (await client.get(f"{KATIB}/experiments/quick")).json()
        assert now["status"]["trials"] == 29
        assert now["metadata"]["annotations"][names.ANNOTATION_PAUSED] == "true"

    run(tmp_path, scenario)


def test_replacing_needs_a_version_and_leaves_the_status_alone(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        made = (await client.post(f"{KATIB}/experiments", json=an_experiment())).json()
        path = f"{KATIB}/experiments/quick"
        without = {**made, "metadata": {"name": "quick"}}
        assert (await client.put(path, json=without)).status_code == 422
        wanted = {**made, "spec": {**made["spec"], "maxTrialCount": 8}, "status": {"trials": 5}}
        replaced = (await client.put(path, json=wanted)).json()
        assert replaced["spec"]["maxTrialCount"] == 8
        assert "trials" not in replaced.get("status", {})
        with_status = {**replaced, "status": {"trials": 5}}
        told = (await client.put(f"{path}/status", json=with_status)).json()
        assert told["status"] == {"trials": 5}

    run(tmp_path, scenario)


def test_deletion_with_preconditions_and_of_a_collection(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        made = (await client.post(f"{KATIB}/experiments", json=an_experiment())).json()
        other = {"preconditions": {"uid": "somebody-elses"}}
        path = f"{KATIB}/experiments/quick"
        refused = await client.request("DELETE", path, json=other)
        assert refused.status_code == 409
        mine = {
            "preconditions": {"uid": made["metadata"]["uid"]},
            "propagationPolicy": "Background",
        }
        deleted = await client.request("DELETE", path, json=mine)
        assert (deleted.status_code, deleted.json()["status"]) == (200, "Success")
        for name in ("a", "b"):
            await client.post(f"{KATIB}/experiments", json=an_experiment(name))
        await client.delete(f"{KATIB}/experiments")
        assert (await client.get(f"{KATIB}/experiments")).json()["items"] == []

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("katib.kubeflow.org/experiment=quick", [0, 1]),
        ("katib.kubeflow.org/experiment==quick,half=second", [1]),
        ("half in (first, third)", [0]),
        ("half notin (first)", [1]),
        ("half!=second", [0]),
        ("!half", []),
        ("half", [0, 1]),
    ],
)
def test_label_selectors(tmp_path: Path, selector: str, found: list[int]) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        for ordinal, half in enumerate(("first", "second")):
            trial = a_trial(ordinal)
            trial["metadata"]["labels"]["half"] = half
            await plane.store.create(trial)
        listed = await client.get(f"{KATIB}/trials", params={"labelSelector": selector})
        shown = [
            obj["metadata"]["annotations"][names.ANNOTATION_ORDINAL]
            for obj in listed.json()["items"]
        ]
        assert shown == [str(ordinal) for ordinal in found]

    run(tmp_path, scenario)


def test_config_maps_and_a_template_in_one(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        body = an_experiment()
        template = body["spec"]["trialTemplate"]
        job = template.pop("trialSpec")
        template["configMap"] = {
            "configMapName": "templates",
            "configMapNamespace": "default",
            "templatePath": "job.yaml",
        }
        missing = await client.post(f"{KATIB}/experiments", json=body)
        assert missing.status_code == 422, missing.text
        stored = {"metadata": {"name": "templates"}, "data": {"job.yaml": json.dumps(job)}}
        made = await client.post("/api/v1/namespaces/default/configmaps", json=stored)
        assert (made.status_code, made.json()["kind"]) == (201, "ConfigMap")
        accepted = await client.post(f"{KATIB}/experiments", json=body)
        assert accepted.status_code == 201, accepted.text

    run(tmp_path, scenario)


# ---- watches ------------------------------------------------------------------------------------


async def first_lines(client: httpx.AsyncClient, path: str, count: int) -> list[Json]:
    found: list[Json] = []
    async with client.stream("GET", path) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            found.append(json.loads(line))
            if len(found) == count:
                break
    return found


def test_a_watch_continues_a_list_and_tells_each_change(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        await client.post(f"{KATIB}/experiments", json=an_experiment("before"))
        version = (await client.get(f"{KATIB}/experiments")).json()["metadata"]["resourceVersion"]
        path = f"{KATIB}/experiments?watch=true&resourceVersion={version}"
        watching = asyncio.ensure_future(first_lines(client, path, 3))
        await client.post(f"{KATIB}/experiments", json=an_experiment("quick"))
        patch = json.dumps({"spec": {"maxTrialCount": 9}})
        await client.patch(f"{KATIB}/experiments/quick", content=patch, headers=MERGE)
        await client.delete(f"{KATIB}/experiments/quick")
        told = [(event["type"], event["object"]["metadata"]["name"]) for event in await watching]
        assert told == [("ADDED", "quick"), ("MODIFIED", "quick"), ("DELETED", "quick")]

    run(tmp_path, scenario)


def test_a_version_that_is_too_old_ends_the_watch_with_410(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        await client.post(f"{KATIB}/experiments", json=an_experiment())
        [event] = await first_lines(client, f"{KATIB}/experiments?watch=1&resourceVersion=-7", 1)
        assert (event["type"], event["object"]["code"]) in (("ERROR", 410), ("ERROR", 422))

    run(tmp_path, scenario)


def test_a_watch_lasts_as_long_as_asked(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        path = f"{KATIB}/trials?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
        lines = await first_lines(client, path, 99)
        assert {line["type"] for line in lines} <= {"BOOKMARK"}

    run(tmp_path, scenario)


def test_many_watches_are_open_when_the_server_is_told_to_end(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        address = find_api(plane.home)
        assert address is not None
        limits = httpx.Limits(max_connections=60)
        headers = {"Authorization": f"Bearer {address.token}"}
        async with httpx.AsyncClient(
            base_url=address.url, headers=headers, limits=limits, timeout=30
        ) as many:
            path = f"{KATIB}/experiments?watch=true"
            watching = [asyncio.ensure_future(first_lines(many, path, 1)) for _ in range(50)]
            await many.post(f"{KATIB}/experiments", json=an_experiment())
            for lines in await asyncio.gather(*watching):
                assert lines[0]["type"] == "ADDED"
            open_ones = [asyncio.ensure_future(first_lines(many, path, 2)) for _ in range(20)]
            await asyncio.wait(open_ones, timeout=0.5)
            for one in open_ones:
                one.cancel()

    run(tmp_path, scenario)


# ---- pods and their logs ------------------------------------------------------------------------


def test_pods_and_logs_of_a_trial_as_katibs_client_asks_for_them(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        trial = await plane.store.create(a_trial(0))
        name = trial["metadata"]["name"]
        output = plane.output_path(trial["metadata"]["uid"], 1)
        output.parent.mkdir(parents=True)
        output.write_text("epoch=1 loss=0.5\n")
        listed = await client.get(
            "/api/v1/namespaces/default/pods",
            params={"labelSelector": f"{names.LABEL_TRIAL}={name}"},
        )
        [pod] = listed.json()["items"]
        assert pod["status"]["phase"] == "Running"
        path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/log"
        for container in ("main", "metrics-logger-and-collector"):
            log = await client.get(path, params={"container": container})
            assert log.text == "epoch=1 loss=0.5\n"
        wrong = await client.get(path, params={"container": "nobody"})
        assert wrong.status_code == 400 and "main" in wrong.json()["message"]

    run(tmp_path, scenario)


def test_a_followed_log_ends_when_the_trial_has_ended(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        trial = await plane.store.create(a_trial(0))
        output = plane.output_path(trial["metadata"]["uid"], 1)
        output.parent.mkdir(parents=True)
        output.write_text("".join(f"line {n}\n" for n in range(5)))
        path = f"/api/v1/namespaces/default/pods/{trial['metadata']['name']}-1/log"
        following = asyncio.ensure_future(client.get(f"{path}?follow=true&tailLines=2"))
        with output.open("a") as file:
            file.write("the last\n")
        ended = {**trial, "status": {**trial["status"], "conditions": given.conditions("Failed")}}
        del ended["metadata"]["resourceVersion"]
        await plane.store.update_status(ended)
        text = (await following).text
        assert text.endswith("the last\n") and "line 0" not in text

    run(tmp_path, scenario)


def test_a_pod_appears_when_its_trial_begins(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        waiting = a_trial(0, "Created")
        waiting["status"]["run"] = {"attempt": 1}
        trial = await plane.store.create(waiting)
        path = "/api/v1/namespaces/default/pods?watch=true"
        watching = asyncio.ensure_future(first_lines(client, path, 1))
        begun = {**trial, "status": a_trial(0)["status"]}
        await plane.store.update_status(begun)
        [event] = await watching
        assert event["type"] == "ADDED"
        assert event["object"]["metadata"]["name"].endswith("-1")

    run(tmp_path, scenario)


# ---- everything around --------------------------------------------------------------------------


def test_discovery_names_what_there_is(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        for path in ("/version", "/api", "/apis", "/apis/kubeflow.org", "/api/v1"):
            assert (await client.get(path)).status_code == 200, path
        found = (await client.get("/apis/kubeflow.org/v1beta1")).json()["resources"]
        assert {r["name"] for r in found} >= {"experiments", "experiments/status", "trials"}
        assert (await client.get("/readyz")).text == "ok"
        unknown = await client.get("/apis/apps/v1/deployments")
        assert (unknown.status_code, unknown.json()["kind"]) == (404, "Status")

    run(tmp_path, scenario)


def test_namespaces_are_those_in_which_something_lives(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        body = an_experiment()
        path = "/apis/kubeflow.org/v1beta1/namespaces/team/experiments"
        assert (await client.post(path, json=body)).status_code == 201
        found = (await client.get("/api/v1/namespaces")).json()["items"]
        assert [n["metadata"]["name"] for n in found] == ["default", "team"]
        label = "katib.kubeflow.org/metrics-collector-injection"
        assert all(n["metadata"]["labels"][label] == "enabled" for n in found)
        assert (await client.get("/api/v1/namespaces/team")).status_code == 200
        made = await client.post("/api/v1/namespaces", json={"metadata": {"name": "fresh"}})
        assert made.status_code == 201, made.text
        assert (await client.get("/api/v1/namespaces/fresh")).status_code == 200

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Host": "evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
def test_others_are_not_answered(tmp_path: Path, headers: dict[str, str], code: int) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        refused = await client.get(f"{KATIB}/experiments", headers=headers)
        assert (refused.status_code, refused.json()["kind"]) == (code, "Status")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"x" * 1_600_000, "application/json", 413),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "application/json", 400),
        (b"{}", "text/html", 415),
        (b'{"kind": "Trial"}', "application/json", 400),
        (b'{"metadata": 3}', "application/json", 400),
    ],
)
def test_bad_bodies_get_a_sentence(
    tmp_path: Path, body: bytes, content_type: str, code: int
) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": content_type}
        refused = await client.post(f"{KATIB}/experiments", content=body, headers=headers)
        assert (refused.status_code, refused.json()["kind"]) == (code, "Status")
        assert "Traceback" not in refused.text

    run(tmp_path, scenario)


def test_the_address_is_for_this_user_only_and_goes_with_the_server(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        for name in ("api.json", "kubeconfig"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        config = json.loads((tmp_path / "kubeconfig").read_text())
        server = config["clusters"][0]["cluster"]["server"]
        assert server.startswith(str(client.base_url).rstrip("/"))
        async with httpx.AsyncClient() as kubectl:  # which sends no token over plain HTTP
            assert (await kubectl.get(f"{server}/api/v1/namespaces")).status_code == 200
            assert (await kubectl.get(f"{server}x/api/v1/namespaces")).status_code == 401

    run(tmp_path, scenario)
    assert not (tmp_path / "api.json").exists()


def test_what_a_killed_server_left_does_not_count(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        left = {"url": f"http://127.0.0.1:{port}", "token": "t", "pid": os.getpid()}
        (tmp_path / "api.json").write_text(json.dumps(left))
        assert find_api(tmp_path) is not None
        (tmp_path / "api.json").write_text(json.dumps({**left, "pid": 2**22 + 1}))
        assert find_api(tmp_path) is None
    # Its process is still there, as a zombie for instance, but nobody listens.
    (tmp_path / "api.json").write_text(json.dumps(left))
    assert find_api(tmp_path) is None


def test_only_loopback_is_served_and_a_taken_port_is_told(tmp_path: Path) -> None:
    async def scenario(plane: LocalPlane, client: httpx.AsyncClient) -> None:
        with pytest.raises(Unavailable, match="loopback"):
            await serve_api(plane, ApiOptions(host="192.0.2.1"))
        port = client.base_url.port
        assert port is not None
        with pytest.raises(Unavailable, match="another port"):
            await serve_api(plane, ApiOptions(port=port))

    run(tmp_path, scenario)
