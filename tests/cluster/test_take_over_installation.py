# SPDX-License-Identifier: Apache-2.0
"""`tunesmith install --take-over` on a cluster with an installation of Katib and its experiments;
no program of a pod runs here."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import katib_objects as katib
import pytest
from cluster_client import Json
from cluster_programs import Tier, require
from cluster_transport import transport_to
from database_servers import DatabaseServer
from installed_pods import installed, tunesmith
from katib_leftovers import HOME, PARTS, WEBHOOKS, Left, installation, job_spec
from katib_rows_written import katibs, steps
from plain_definitions import KINDS, definition
from running_cluster import Cluster, api_tier

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.options import Installation
from tunesmith.installation.taking_over import stop_katib
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiTransport
from tunesmith_observation.sql import SqlObservationLog

pytest_plugins = ("database_fixtures",)
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HOOKS = "/apis/admissionregistration.k8s.io/v1"
KATIB = "/apis/kubeflow.org/v1beta1"
JOB = f"/apis/batch/v1/namespaces/{HOME}/jobs/tunesmith-import-katib-db"
PODS = f"/api/v1/namespaces/{HOME}/pods"
WORDS = ("install", "--take-over", "--image", "test.local/tunesmith:1", "--wait", "0")
POINTS = {f"search-{tail}": f"{n}.5" for n, tail in enumerate(("zz", "aa", "mm"))}


@contextmanager
def with_katib(folder: Path) -> Iterator[Cluster]:
    """A cluster with Katib and an experiment of which a trial runs."""
    with api_tier(require(Tier.API), folder) as found:
        found.create_namespace(HOME)
        found.apply([*map(definition, KINDS), *installation()])
        for kind in KINDS:
            path = f"{KATIB}/{kind.lower()}s"
            found.wait_until(lambda path=path: found.exists(path), f"{path} is served")  # type: ignore[misc]
        until_katib_runs(found)
        leave_an_experiment(found)
        yield found


@pytest.fixture
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As Katib has left it."""
    with with_katib(tmp_path_factory.mktemp("katibs-cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def used_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with with_katib(tmp_path_factory.mktemp("katibs-cluster")) as found:
        yield found


@pytest.fixture
def cluster(used_cluster: Cluster) -> Cluster:
    """Where Katib runs again, and nothing of ours; definitions may be ours."""
    if tunesmith(used_cluster, "uninstall", "--yes").returncode != 0:
        raise AssertionError("what an earlier test installed does not go")
    used_cluster.kubectl("delete", "-n", HOME, "secret/tunesmith-database", "--ignore-not-found")
    used_cluster.apply(installation())
    until_katib_runs(used_cluster)
    return used_cluster


def until_katib_runs(cluster: Cluster) -> None:
    for name in PARTS:
        cluster.wait_until(
            lambda name=name: of(cluster, name)["status"].get("replicas"),  # type: ignore[misc]
            f"a pod of {name}",
        )


def leave_an_experiment(cluster: Cluster) -> None:
    cluster.create_namespace("team")
    left = Left(cluster, "team")
    top = left.experiment("search", trials=3, succeeded=2, ended=False, maxTrialCount=6)
    left.create("suggestions", katib.suggestion(top, POINTS, ended=False))
    for (name, value), loss in zip(POINTS.items(), (4.0, 3.0, None), strict=True):
        left.create("trials", katib.trial(top, name, value, job_spec(name, "team"), loss))


def of(cluster: Cluster, name: str) -> dict[str, Any]:
    return cluster.api.request("GET", f"/apis/apps/v1/namespaces/{HOME}/deployments/{name}")


def experiments(cluster: Cluster) -> list[Json]:
    """What Katib has left of them, whole but for bookkeeping."""
    found = []
    for kind in KINDS:
        path = f"{KATIB}/{kind.lower()}s"
        # With a new definition the server begins anew, and says 429 meanwhile.
        cluster.wait_until(lambda path=path: cluster.exists(path), f"{path} is served")  # type: ignore[misc]
        for each in cluster.api.request("GET", path)["items"]:
            kept = ("name", "namespace", "uid", "finalizers", "labels", "ownerReferences")
            head = {key: v for key, v in each["metadata"].items() if key in kept}
            found.append({**each, "metadata": head})
    return found


def webhooks(cluster: Cluster) -> set[tuple[str, str]]:
    found = set()
    for kind in WEBHOOKS:
        items = cluster.api.request("GET", f"{HOOKS}/{kind.lower()}s")["items"]
        found |= {(kind, each["metadata"]["name"]) for each in items}
    return found


def check_that_all_is_ours(cluster: Cluster) -> None:
    for name in PARTS:
        assert of(cluster, name)["spec"]["replicas"] == 0
    assert of(cluster, "katib-mysql")["spec"]["replicas"] == 1
    assert webhooks(cluster) == {(kind, "tunesmith.kubeflow.org") for kind in WEBHOOKS}
    path = f"/api/v1/namespaces/{HOME}/services/katib-db-manager"
    selected = cluster.api.request("GET", path)["spec"]["selector"]
    assert "katib.kubeflow.org/component" not in selected
    assert "tunesmith-observation" in selected.values()
    config = f"/api/v1/namespaces/{HOME}/configmaps/katib-config"
    assert "KatibConfig" in cluster.api.request("GET", config)["data"]["katib-config.yaml"]
    assert "mysql://root@katib-mysql:3306/katib" in words_of_job(cluster)


def words_of_job(cluster: Cluster) -> list[str]:
    [container] = cluster.api.request("GET", JOB)["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def findings(cluster: Cluster) -> dict[str, dict[str, str]]:
    found = json.loads(tunesmith(cluster, "doctor", "-o", "json").stdout)
    return {each["subject"]: each for each in found}


# ---- all of it ----------------------------------------------------------------------------------


def test_katib_is_stopped_and_ours_is_there_and_twice_is_once(new_cluster: Cluster) -> None:
    cluster = new_cluster
    before = experiments(cluster)
    assert len(before) == 5
    refused = tunesmith(cluster, "install", "--wait", "0")
    assert refused.returncode == 2 and "tunesmith install --take-over" in refused.stderr
    asked = tunesmith(cluster, *WORDS)  # nobody is there to agree
    assert asked.returncode == 1 and "katib-controller" in asked.stdout
    assert of(cluster, "katib-controller")["spec"]["replicas"] == 1

    done = tunesmith(cluster, *WORDS, "--yes")
    assert done.returncode == 0, done.stderr
    assert "stopped  Deployment kubeflow/katib-controller" in done.stdout
    check_that_all_is_ours(cluster)
    assert experiments(cluster) == before

    again = tunesmith(cluster, *WORDS, "--yes")
    assert again.returncode == 0, again.stderr
    assert "0 created, 0 changed" in again.stdout
    assert "stopped" not in again.stdout and "removed" not in again.stdout
    check_that_all_is_ours(cluster)
    uninstalled = tunesmith(cluster, "uninstall", "--yes")
    assert uninstalled.returncode == 0, uninstalled.stderr
    assert of(cluster, "katib-controller")["spec"]["replicas"] == 0
    assert experiments(cluster) == before


def test_the_way_back_is_to_uninstall_and_apply_what_katib_is(new_cluster: Cluster) -> None:
    cluster, before = new_cluster, experiments(new_cluster)
    assert tunesmith(cluster, *WORDS, "--yes").returncode == 0
    assert tunesmith(cluster, "uninstall", "--yes").returncode == 0
    objects = [*map(definition, KINDS), *installation()]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "-f", "-", stdin=text)  # as people do it
    places = [f"deployment/{name}" for name in PARTS]
    cluster.kubectl("scale", "-n", HOME, *places, "--replicas", "1")
    until_katib_runs(cluster)
    assert webhooks(cluster) == {(kind, "katib.kubeflow.org") for kind in WEBHOOKS}
    path = f"/api/v1/namespaces/{HOME}/services/katib-db-manager"
    selected = cluster.api.request("GET", path)["spec"]["selector"]
    assert selected == {"katib.kubeflow.org/component": "db-manager"}
    assert experiments(cluster) == before


def test_whatever_interrupts_it_the_same_command_completes_it(new_cluster: Cluster) -> None:
    cluster = new_cluster
    argv = [sys.executable, "-m", "tunesmith", *WORDS, "--yes", "--kubeconfig"]
    for lines in (1, 3, 12):  # so much is said, then it is killed
        process = subprocess.Popen(
            [*argv, str(cluster.kubeconfig)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stdout.close()
    done = tunesmith(cluster, *WORDS, "--yes")
    assert done.returncode == 0, done.stderr
    check_that_all_is_ours(cluster)


def test_katib_goes_on_where_ours_could_not_be_installed(cluster: Cluster) -> None:
    external = ("--database", "external", "--db-url", "mysql+pymysql://u@db/x")
    for words, said in (
        (external, "password of the database is not known"),
        (("--cert-manager",), "no cert-manager"),
        (("-n", "tuning"), "Katib is in namespace kubeflow"),
    ):
        done = tunesmith(cluster, *WORDS, "--yes", *words)
        assert done.returncode == 2 and said in done.stderr
        assert all(of(cluster, name)["spec"]["replicas"] == 1 for name in PARTS)
        assert webhooks(cluster) == {(kind, "katib.kubeflow.org") for kind in WEBHOOKS}


# ---- stopping -----------------------------------------------------------------------------------


class Cut(Exception):
    """The process ends here."""


class CutOff:
    """A transport on which so many changes take effect and then none; counts looks at pods."""

    def __init__(self, transport: ApiTransport, changes: int) -> None:
        self._transport = transport
        self._changes = changes
        self.looks = 0

    async def request(self, request: ApiRequest) -> ApiReply:
        self.looks += request.path.endswith("/pods")
        if request.method != "GET":
            if self._changes == 0:
                raise Cut
            self._changes -= 1
        return await self._transport.request(request)

    async def stream(self, request: ApiRequest, *, silence_s: float) -> Any:
        raise NotImplementedError


def test_wherever_stopping_is_cut_off_doing_it_again_completes_it(cluster: Cluster) -> None:
    async def stop(changes: int) -> None:
        transport = transport_to(cluster)
        try:
            objects = ClusterObjects(CutOff(transport, changes))
            await stop_katib(objects, Installation(), lambda _: None)
        finally:
            await transport.aclose()

    def is_stopped() -> bool:
        return not webhooks(cluster) and all(
            of(cluster, name)["spec"]["replicas"] == 0 for name in PARTS
        )

    for changes in itertools.count():
        try:
            asyncio.run(stop(changes))
            break
        except Cut:
            assert not is_stopped()
        asyncio.run(stop(100))
        assert is_stopped()
        cluster.apply(installation())
        until_katib_runs(cluster)
    assert changes == 5 and is_stopped()


def test_a_controller_that_an_earlier_try_has_scaled_is_waited_for(cluster: Cluster) -> None:
    """Its pod still ends, when the command is given again."""
    labels = "labelSelector=katib.kubeflow.org/component=controller"
    [pod] = cluster.api.request("GET", f"{PODS}?{labels}")["items"]
    path = f"{PODS}/{pod['metadata']['name']}"
    cluster.api.request("PATCH", path, {"metadata": {"finalizers": ["example.org/ends-slowly"]}})
    cluster.kubectl("scale", "-n", HOME, "deployment/katib-controller", "--replicas", "0")

    async def scenario() -> None:
        transport = transport_to(cluster)
        seen = CutOff(transport, 100)
        stopping = asyncio.create_task(
            stop_katib(ClusterObjects(seen), Installation(), lambda _: None)
        )
        while seen.looks < 3:
            assert not stopping.done()
            await asyncio.sleep(0.05)
        assert webhooks(cluster) == {(kind, "katib.kubeflow.org") for kind in WEBHOOKS}
        cluster.api.request("PATCH", path, {"metadata": {"finalizers": None}})
        await stopping
        await transport.aclose()

    asyncio.run(scenario())
    assert not cluster.exists(path) and not webhooks(cluster)


# ---- rows ---------------------------------------------------------------------------------------


def test_a_job_that_gave_up_is_told_by_doctor_and_begun_again_by_the_same_command(
    cluster: Cluster,
) -> None:
    assert tunesmith(cluster, *WORDS, "--yes").returncode == 0
    assert findings(cluster)["Job tunesmith-import-katib-db"]["fault"] == ""
    job = cluster.api.request("GET", JOB)
    labels = "labelSelector=batch.kubernetes.io/job-name=tunesmith-import-katib-db"
    cluster.wait_until(lambda: cluster.api.request("GET", f"{PODS}?{labels}")["items"], "its pod")
    [pod] = cluster.api.request("GET", f"{PODS}?{labels}")["items"]
    said = "1 of 2 rows\nerror: the database 'katib' has no table observation_logs\ntry: help"
    ended = {"exitCode": 2, "reason": "Error", "message": said}
    container = {"name": "import", "image": "none", "imageID": "", "ready": False}
    status = {**container, "restartCount": 0, "state": {"terminated": ended}}
    body = {"status": {"phase": "Failed", "containerStatuses": [status]}}
    cluster.api.request("PATCH", f"{PODS}/{pod['metadata']['name']}/status", body)
    cluster.wait_until(
        lambda: "Failed" in str(cluster.api.request("GET", JOB)["status"].get("conditions")),
        "the Job gives up at once: another try would not mend that",
        30,
    )
    fault = findings(cluster)["Job tunesmith-import-katib-db"]
    assert "has no table observation_logs" in fault["fault"]
    assert fault["next"] == "tunesmith install -n kubeflow --take-over"

    again = tunesmith(cluster, *WORDS, "--yes")
    assert again.returncode == 0, again.stderr
    assert "created  Job tunesmith-import-katib-db" in again.stdout
    assert cluster.api.request("GET", JOB)["metadata"]["uid"] != job["metadata"]["uid"]
    assert findings(cluster)["Job tunesmith-import-katib-db"]["fault"] == ""


def test_what_the_job_runs_gives_rows_to_the_trials_of_the_cluster(
    cluster: Cluster, mariadb: DatabaseServer, postgresql: DatabaseServer
) -> None:
    assert tunesmith(cluster, *WORDS, "--yes").returncode == 0
    words = words_of_job(cluster)
    rows = [*steps("search-zz", 30), *steps("search-gone", 3)]
    source = katibs(mariadb, rows)
    target = postgresql.access(postgresql.new_database())
    places = {
        "mysql://root@katib-mysql:3306/katib": source,
        "postgresql+pg8000://tunesmith@tunesmith-postgres:5432/tunesmith": str(target.url),
        "/katib/MYSQL_ROOT_PASSWORD": str(mariadb.password_file),
        "/tunesmith-database/password": str(postgresql.password_file),
    }
    assert places.keys() <= set(words)
    done = tunesmith(cluster, *(places.get(word, word) for word in words))
    assert done.returncode == 0, done.stderr
    assert "33 rows of 2 trials: 33 copied" in done.stdout
    assert "1 of these trials exist no more" in done.stdout

    trial = cluster.api.request("GET", f"{KATIB}/namespaces/team/trials/search-zz")

    async def read() -> tuple[list[str], list[str]]:
        log = await asyncio.to_thread(SqlObservationLog.open, target)
        try:
            found = await log.rows(trial["metadata"]["uid"], 1)
            kept = await log.rows_by_trial_name("", "search-gone")
            return [row.value for row in found], [row.value for row in kept]
        finally:
            await log.aclose()

    assert asyncio.run(read()) == ([f"{n}.5" for n in range(30)], ["0.5", "1.5", "2.5"])


def test_where_there_is_no_database_of_katibs_people_are_told_what_to_type(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.kubectl("delete", "-n", HOME, "secret", "katib-mysql-secrets")
    done = tunesmith(cluster, *WORDS, "--yes")
    assert done.returncode == 0, done.stderr
    assert "tunesmith import katib-db URL" in done.stdout
    assert not cluster.exists(JOB)
    assert "Job tunesmith-import-katib-db" not in findings(cluster)
    assert "brings up to date" in installed(cluster)
