# SPDX-License-Identifier: Apache-2.0
"""A whole installation with real pods: experiments as Katib's users write them, and failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installed_cluster import SYSTEM, Installed, experiment, installed_on, python, run, state
from running_cluster import Cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

Json = dict[str, Any]
EXAMPLES = Path(__file__).parents[2] / "examples"
LOSS = "import sys; print(f'loss={(float(sys.argv[1]) - 1) ** 2}')"
SLOW = f"import time; time.sleep(2)\n{LOSS}"


@pytest.fixture(scope="module")
def installed(node_cluster: Cluster) -> Iterator[Installed]:
    with installed_on(node_cluster) as found:
        yield found


@pytest.fixture
def namespace(node_cluster: Cluster) -> str:
    return node_cluster.namespace_of_test()


def points(trials: list[Json]) -> list[str]:
    return [trial["spec"]["parameterAssignments"][0]["value"] for trial in trials]


def pods_started(installed: Installed, namespace: str) -> dict[str, int]:
    """How many pods each trial had, by events of its Job."""
    path = f"/api/v1/namespaces/{namespace}/events"
    counts: dict[str, int] = {}
    for event in installed.cluster.api.request("GET", path)["items"]:
        if event["reason"] == "SuccessfulCreate" and event["involvedObject"]["kind"] == "Job":
            name = event["involvedObject"]["name"]
            counts[name] = counts.get(name, 0) + (event.get("count") or 1)
    return counts


def test_random_search_succeeds_and_its_deletion_leaves_nothing(
    installed: Installed, namespace: str
) -> None:
    installed.create(experiment("random", namespace, python(LOSS)))
    found = installed.ended(namespace, "random")
    assert state(found) == "Succeeded"
    assert found["status"]["trialsSucceeded"] == 12
    trials = installed.trials(namespace)
    assert len(set(points(trials))) == 12
    for trial in trials:
        [metric] = trial["status"]["observation"]["metrics"]
        x = float(trial["spec"]["parameterAssignments"][0]["value"])
        assert float(metric["latest"]) == pytest.approx((x - 1) ** 2)

    installed.cluster.kubectl("delete", "experiment", "random", "-n", namespace)

    def is_empty() -> bool:
        kinds = "experiments,suggestions,trials,jobs,pods"
        return not installed.cluster.kubectl("get", kinds, "-n", namespace, "-o", "name").strip()

    installed.wait(is_empty, "nothing is left", 60)


def test_the_digits_example_finds_a_good_classifier(installed: Installed, namespace: str) -> None:
    script = (EXAMPLES / "digits" / "train.py").read_text()
    installed.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "data": {"train.py": script},
            "metadata": {"name": "digits", "namespace": namespace},
        }
    )
    body = experiment(
        "digits",
        namespace,
        [
            "python3",
            "/code/train.py",
            "--lr=${trialParameters.lr}",
            "--hidden=${trialParameters.hidden}",
        ],
    )
    spec = body["spec"]
    spec["objective"] = {"type": "maximize", "objectiveMetricName": "accuracy"}
    spec["algorithm"] = {"algorithmName": "tpe"}
    spec["parameters"] = [
        {
            "name": "lr",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.001", "max": "0.5", "distribution": "logUniform"},
        },
        {"name": "hidden", "parameterType": "int", "feasibleSpace": {"min": "8", "max": "64"}},
    ]
    template = spec["trialTemplate"]
    template["trialParameters"] = [{"name": n, "reference": n} for n in ("lr", "hidden")]
    pod = template["trialSpec"]["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "code", "configMap": {"name": "digits"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "code", "mountPath": "/code"}]
    installed.create(body)
    found = installed.ended(namespace, "digits", 240)
    assert state(found) == "Succeeded"
    [metric] = found["status"]["currentOptimalTrial"]["observation"]["metrics"]
    assert float(metric["max"]) > 0.9


def test_a_raised_budget_takes_an_experiment_up_again(installed: Installed, namespace: str) -> None:
    body = experiment("more", namespace, python(LOSS), maxTrialCount=3, resumePolicy="LongRunning")
    installed.create(body)
    assert state(installed.ended(namespace, "more")) == "Succeeded"
    patch = '{"spec":{"maxTrialCount":6}}'
    installed.cluster.kubectl(
        "patch", "experiment", "more", "-n", namespace, "--type=merge", "-p", patch
    )
    installed.wait(
        lambda: installed.experiment(namespace, "more")["status"].get("trialsSucceeded") == 6,
        "six trials",
    )
    assert len(set(points(installed.trials(namespace)))) == 6


def test_median_stopping_ends_a_pod(installed: Installed, namespace: str) -> None:
    program = (
        "import sys, time\n"
        "x = abs(float(sys.argv[1]))\n"
        "for step in range(40):\n"
        "    print(f'loss={x + 1 / (step + 1)}', flush=True)\n"
        "    time.sleep(0.5 if x > 2 else 0.02)\n"
    )
    rule = {
        "algorithmName": "medianstop",
        "algorithmSettings": [
            {"name": "min_trials_required", "value": "2"},
            {"name": "start_step", "value": "3"},
        ],
    }
    body = experiment(
        "median",
        namespace,
        python(program),
        maxTrialCount=10,
        earlyStopping=rule,
        algorithm={
            "algorithmName": "sobol",
            "algorithmSettings": [{"name": "random_state", "value": "3"}],
        },
    )
    installed.create(body)
    assert state(installed.ended(namespace, "median", 240)) == "Succeeded"
    stopped = [t for t in installed.trials(namespace) if state(t) == "EarlyStopped"]
    assert stopped, [state(t) for t in installed.trials(namespace)]
    for trial in stopped:
        assert trial["status"]["observation"]["metrics"][0]["latest"]


def test_odd_programs_end_in_the_right_state(installed: Installed, namespace: str) -> None:
    """Each by itself, so that none waits for another."""
    side = {"name": "side", "image": "test.local/python:1", "command": ["sleep", "3"]}
    loud = f"import sys\nfor _ in range(20_000): print('x' * 500)\n{LOSS}"
    odd: dict[str, tuple[list[str], str]] = {
        "short": (["bash", "-c", "echo loss=${trialParameters.x}"], "Succeeded"),
        "failing": (python("import sys; print('loss=1'); sys.exit(1)"), "Failed"),
        "silent": (["true", "${trialParameters.x}"], "MetricsUnavailable"),
        "loud": (python(loud), "Succeeded"),
        "two": (python(LOSS), "Succeeded"),
        "quoted": (
            python("import sys; print(f'loss={len(sys.argv[2])}')", "a'b\"c $(id) \\\n(x)"),
            "Succeeded",
        ),
    }
    for name, (command, _) in odd.items():
        body = experiment(
            name, namespace, command, maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1
        )
        spec = body["spec"]["trialTemplate"]["trialSpec"]["spec"]
        spec["backoffLimit"] = 0
        if name == "two":
            spec["template"]["spec"]["containers"].append(side)
        installed.create(body)
    for name in odd:
        installed.ended(namespace, name, 180)
    states = {
        trial["metadata"]["labels"]["katib.kubeflow.org/experiment"]: trial
        for trial in installed.trials(namespace)
    }
    assert {n: state(t) for n, t in states.items()} == {n: want for n, (_, want) in odd.items()}
    [metric] = states["quoted"]["status"]["observation"]["metrics"]
    assert float(metric["latest"]) == len("a'b\"c $(id) \\\n(x)")


def test_no_row_is_lost_while_the_database_is_away(installed: Installed, namespace: str) -> None:
    installed.create(
        experiment("outage", namespace, python(SLOW), maxTrialCount=8, parallelTrialCount=4)
    )
    installed.wait(lambda: len(installed.trials(namespace)) >= 4, "trials", 60)
    with installed.without("statefulset/tunesmith-postgres", 1):
        time.sleep(15)  # trials end meanwhile
    found = installed.ended(namespace, "outage", 180)
    assert found["status"]["trialsSucceeded"] == 8
    assert set(pods_started(installed, namespace).values()) == {1}


def test_rows_that_a_pod_could_not_deliver_are_fetched_from_its_log(
    installed: Installed, namespace: str
) -> None:
    body = experiment(
        "undelivered",
        namespace,
        python(SLOW),
        maxTrialCount=2,
        parallelTrialCount=2,
        maxFailedTrialCount=1,
    )
    pod = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 8
    installed.create(body)

    def is_running() -> bool:
        names = installed.cluster.kubectl(
            "get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].status.phase}"
        )
        return names.split() == ["Running", "Running"]

    installed.wait(is_running, "two pods run", 60)
    with installed.without("deploy/tunesmith-observation", 1):
        time.sleep(15)  # longer than the pods may wait
    found = installed.ended(namespace, "undelivered", 180)
    assert found["status"]["trialsSucceeded"] == 2
    assert set(pods_started(installed, namespace).values()) == {1}


def test_a_program_that_its_image_names_is_collected_by_the_pods_log(
    installed: Installed, namespace: str
) -> None:
    """No command: only the container runtime knows what runs."""
    body = experiment(
        "image",
        namespace,
        ["removed"],
        maxTrialCount=2,
        parallelTrialCount=2,
        maxFailedTrialCount=1,
    )
    pod = body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    del container["command"]
    container["args"] = ["python3", "-c", LOSS, "${trialParameters.x}"]  # the image's Cmd is bash
    installed.create(body)
    found = installed.ended(namespace, "image", 180)
    assert found["status"]["trialsSucceeded"] == 2


def test_forty_assignments_are_distinct_though_the_suggestion_service_goes(
    installed: Installed, namespace: str
) -> None:
    body = experiment(
        "forty",
        namespace,
        ["bash", "-c", "echo loss=${trialParameters.x}"],
        maxTrialCount=40,
        parallelTrialCount=8,
        algorithm={"algorithmName": "tpe"},
    )
    installed.create(body)
    installed.wait(lambda: len(installed.trials(namespace)) >= 12, "twelve trials", 90)
    installed.delete_pods("suggestion", "--force", "--grace-period=0", "--wait=false")
    assert state(installed.ended(namespace, "forty", 300)) == "Succeeded"
    assert len(set(points(installed.trials(namespace)))) == 40


def test_controllers_that_go_are_replaced_and_nothing_is_done_twice(
    installed: Installed, namespace: str
) -> None:
    installed.create(experiment("headless", namespace, python(SLOW), maxTrialCount=9))
    installed.wait(lambda: len(installed.trials(namespace)) >= 3, "three trials", 60)
    installed.delete_pods("controller", "--force", "--grace-period=0", "--wait=false")
    installed.wait(lambda: len(installed.trials(namespace)) >= 6, "the work goes on", 60)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": namespace}}
    container = {"name": "c", "image": "test.local/python:1", "command": ["true"]}
    pod["spec"] = {"restartPolicy": "Never", "containers": [container]}
    with installed.without("deploy/tunesmith-controller", 2):
        installed.create(pod)  # nobody else's pod waits for our webhook
    found = installed.ended(namespace, "headless", 120)
    assert found["status"]["trialsSucceeded"] == 9
    assert set(pods_started(installed, namespace).values()) == {1}


def test_doctor_finds_nothing_to_mend(installed: Installed) -> None:
    assert "FAULT" not in run(installed.cluster, "doctor", "-n", SYSTEM)
