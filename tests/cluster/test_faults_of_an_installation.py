# SPDX-License-Identifier: Apache-2.0
"""What may happen to a cluster in the middle of a search, with the whole installation: each ends in
the right final state or in a reason that names the cause.

With TUNESMITH_LONG=1 (`make test-long`) outages take 30 s, that of the database 2 minutes, and the
odd programs run 200 times; in CI 6 s, 15 s (test_installation_on_a_node) and 20 times.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from control_plane import API_SERVER, ETCD
from installed_cluster import SYSTEM, Installed, experiment, installed_on, python, state
from running_cluster import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

Json = dict[str, Any]
LONG: Final = bool(os.environ.get("TUNESMITH_LONG"))
OUTAGE_S: Final = 30 if LONG else 6
DATABASE_OUTAGE_S: Final = 120
RUNS: Final = 200 if LONG else 20
LOUD_MB: Final = 100 if LONG else 10
LOSS: Final = "import sys; print(f'loss={(float(sys.argv[1]) - 1) ** 2}')"
SLOW: Final = f"import time; time.sleep(4)\n{LOSS}"
NEVER_AGAIN: Final = {"backoffLimit": 0}
TWO: Final = {"maxTrialCount": 2, "parallelTrialCount": 2, "maxFailedTrialCount": 1}


@pytest.fixture(scope="module")
def installed(node_cluster: Cluster) -> Iterator[Installed]:
    with installed_on(node_cluster) as found:
        yield found


@pytest.fixture
def namespace(node_cluster: Cluster) -> str:
    return node_cluster.namespace_of_test()


def begun(installed: Installed, namespace: str, name: str, **spec: Any) -> None:
    """An experiment whose first pods run."""
    installed.create(experiment(name, namespace, python(SLOW), **spec))
    installed.wait(lambda: "Running" in phases(installed, namespace), "pods run", 60)


def phases(installed: Installed, namespace: str) -> list[str]:
    return installed.cluster.kubectl(
        "get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].status.phase}"
    ).split()


def succeeded(installed: Installed, namespace: str, name: str, count: int) -> None:
    """All its trials have, each with the value that its own point gives."""
    found = installed.ended(namespace, name, 240)
    assert state(found) == "Succeeded"
    assert found["status"]["trialsSucceeded"] == count
    for trial in installed.trials(namespace):
        x = float(trial["spec"]["parameterAssignments"][0]["value"])
        [metric] = trial["status"]["observation"]["metrics"]
        assert float(metric["latest"]) == pytest.approx((x - 1) ** 2)


def pods_made(installed: Installed, namespace: str) -> int:
    """By the audit log. Events say more, but some are lost with an API server."""
    found = 0
    for entry in installed.cluster.audit():
        about = entry.get("objectRef") or {}
        made = entry["verb"] == "create" and about.get("resource") == "pods"
        good = (entry.get("responseStatus") or {}).get("code") == 201
        found += (
            made and good and about.get("namespace") == namespace and "subresource" not in about
        )
    return found


@pytest.mark.parametrize("component", [ETCD, API_SERVER])
def test_the_control_plane_goes_and_comes_back(
    installed: Installed, namespace: str, component: str
) -> None:
    begun(installed, namespace, "search", maxTrialCount=9)
    installed.cluster.kill(component)
    time.sleep(OUTAGE_S)  # trials end meanwhile
    installed.cluster.start(component)
    installed.cluster.wait_until(installed.cluster.api.ready, "the API server ready", 60)
    succeeded(installed, namespace, "search", 9)
    assert pods_made(installed, namespace) == 9


def test_the_api_server_hangs(installed: Installed, namespace: str) -> None:
    """Connections stay open and nobody answers."""
    begun(installed, namespace, "search", maxTrialCount=6)
    installed.cluster.pause(API_SERVER)
    time.sleep(OUTAGE_S)
    installed.cluster.resume(API_SERVER)
    succeeded(installed, namespace, "search", 6)
    assert pods_made(installed, namespace) == 6


def test_all_of_our_own_parts_are_killed_at_once(installed: Installed, namespace: str) -> None:
    begun(installed, namespace, "search", maxTrialCount=9)
    for part in ("controller", "suggestion", "observation", "postgres"):
        installed.delete_pods(part, "--force", "--grace-period=0", "--wait=false")
    succeeded(installed, namespace, "search", 9)
    assert pods_made(installed, namespace) == 9


def test_an_evicted_pod_is_replaced_and_its_trial_succeeds(
    installed: Installed, namespace: str
) -> None:
    begun(installed, namespace, "evicted", **TWO)
    [pod, *_] = installed.cluster.kubectl(
        "get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}"
    ).split()
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    about = {"name": pod, "namespace": namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about}
    installed.cluster.api.request("POST", path, body)
    succeeded(installed, namespace, "evicted", 2)


def test_while_the_only_node_is_drained_a_trial_says_why_it_waits(
    installed: Installed, namespace: str
) -> None:
    begun(installed, namespace, "drained", maxTrialCount=3)
    kubectl = installed.cluster.kubectl
    kubectl("cordon", "node0")
    try:
        kubectl("delete", "pods", "-n", namespace, "--all", "--grace-period=1", seconds=90)

        def is_told() -> bool:
            return "unschedulable" in json.dumps(installed.trials(namespace))

        installed.wait(is_told, "a trial says that its pod finds no node", 30)
    finally:
        kubectl("uncordon", "node0")
    succeeded(installed, namespace, "drained", 3)


def test_a_job_deleted_by_hand_and_jobs_that_delete_themselves(
    installed: Installed, namespace: str
) -> None:
    body = experiment("deleted", namespace, python(SLOW), maxTrialCount=6)
    body["spec"]["trialTemplate"]["trialSpec"]["spec"]["ttlSecondsAfterFinished"] = 0
    installed.create(body)
    installed.wait(lambda: "Running" in phases(installed, namespace), "pods run", 60)
    name = installed.trials(namespace)[0]["metadata"]["name"]
    installed.cluster.kubectl("delete", "job", name, "-n", namespace)
    succeeded(installed, namespace, "deleted", 6)


def test_objects_written_by_force_fail_alone(installed: Installed, namespace: str) -> None:
    """While no webhook answers: what is wrong with an Experiment is said by the controller, and a
    Trial of nobody hinders nobody."""
    other = f"{namespace}-b"
    installed.cluster.create_namespace(other)
    begun(installed, other, "neighbour", maxTrialCount=6)
    unknown = experiment("unknown", namespace, python(LOSS), **TWO)
    unknown["spec"]["trialTemplate"] |= {
        "trialSpec": {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "spec": {"entrypoint": "train --x=${trialParameters.x}"},
        },
        "successCondition": 'status.[@this].#(jobStatus=="SUCCEEDED")#',
        "failureCondition": 'status.[@this].#(jobDeploymentStatus=="Failed")#',
    }
    negative = experiment("negative", namespace, python(LOSS), maxTrialCount=-1)
    plain = experiment("plain", namespace, python(LOSS), **TWO)
    trial = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {
            "name": "forced",
            "namespace": namespace,
            "labels": {"katib.kubeflow.org/experiment": "plain"},
        },
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "parameterAssignments": [{"name": "x", "value": "no number"}],
            "runSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": 7}},
        },
    }
    with installed.without("deploy/tunesmith-controller", 2):
        for each in (unknown, negative, plain, trial):
            installed.create(each)
    succeeded(installed, other, "neighbour", 6)
    assert state(installed.ended(namespace, "plain", 120)) == "Succeeded"

    def told(name: str) -> str:
        return json.dumps(installed.experiment(namespace, name)["status"])

    installed.wait(lambda: "maxTrialCount" in told("negative"), "what is wrong with it", 60)
    assert state(installed.experiment(namespace, "negative")) == "Failed"

    def names_the_kind() -> bool:
        said = [each["status"]["conditions"][-1] for each in installed.trials(namespace)]
        return any(c["type"] == "Failed" and "RayJob of ray.io/v1" in c["message"] for c in said)

    installed.wait(names_the_kind, "the kind that is missing is named", 60)


ODD: Final[dict[str, tuple[list[str], str]]] = {
    "short": (["bash", "-c", "echo loss=${trialParameters.x}"], "Succeeded"),
    "failing": (python("import sys; print('loss=1'); sys.exit(1)"), "Failed"),
    "silent": (["true", "${trialParameters.x}"], "MetricsUnavailable"),
    "loud": (
        python(f"import sys\nfor _ in range({2000 * LOUD_MB}): print('x' * 500)\n{LOSS}"),
        "Succeeded",
    ),
    "two": (python(LOSS), "Succeeded"),
}
"""Name, command, and the state that each of its trials must end in."""


def test_odd_programs_are_never_stuck_and_never_lost(installed: Installed, namespace: str) -> None:
    runs = RUNS // len(ODD)
    for name, (command, _) in ODD.items():
        counts = {"maxTrialCount": runs, "parallelTrialCount": 2, "maxFailedTrialCount": runs}
        body = experiment(name, namespace, command, **counts)
        spec = body["spec"]["trialTemplate"]["trialSpec"]["spec"]
        spec |= NEVER_AGAIN
        if name == "two":
            side = {"name": "side", "image": "test.local/python:1", "command": ["sleep", "2"]}
            spec["template"]["spec"]["containers"].append(side)
        installed.create(body)
    for name in ODD:
        installed.ended(namespace, name, 900)
    found = Counter(
        (trial["metadata"]["labels"]["katib.kubeflow.org/experiment"], state(trial))
        for trial in installed.trials(namespace)
    )
    assert found == {(name, want): runs for name, (_, want) in ODD.items()}


@pytest.mark.skipif(not LONG, reason="two minutes: `make test-long`; 15 s in CI, beside")
def test_two_minutes_without_a_database(installed: Installed, namespace: str) -> None:
    body = experiment("outage", namespace, python(SLOW), maxTrialCount=12, parallelTrialCount=4)
    installed.create(body)
    installed.wait(lambda: len(installed.trials(namespace)) >= 4, "trials", 60)
    with installed.without("statefulset/tunesmith-postgres", 1):
        time.sleep(DATABASE_OUTAGE_S)
    succeeded(installed, namespace, "outage", 12)
    assert pods_made(installed, namespace) == 12


def test_afterwards_nothing_is_wrong(installed: Installed) -> None:
    for part in ("controller", "suggestion", "observation"):
        replicas = 2 if part == "controller" else 1
        installed.until_ready(f"deploy/tunesmith-{part}", replicas)
    assert SYSTEM in installed.cluster.kubectl("get", "leases", "-A")
