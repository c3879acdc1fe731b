# SPDX-License-Identifier: Apache-2.0
"""What a trial's pod looks like with its collector, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunesmith_controller.admission.collection import CollectionPlan, plan_of
from tunesmith_controller.admission.pods import (
    CollectionMode,
    InjectionSettings,
    collection_mode,
    inject,
)
from tunesmith_controller.ports import Invalid, Key, TrialRun

Json = dict[str, Any]
PLAN = CollectionPlan("t1", "ns", "uid-1", 2, "main", metrics=("loss",))
SETTINGS = InjectionSettings(image="test.local/tunesmith:1")
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def a_pod(**main: Any) -> Json:
    container = {"name": "main", "image": "i", "command": ["python", "train.py"], **main}
    return {"metadata": {}, "spec": {"containers": [container]}}


def with_mount(path: str, **fields: Any) -> Json:
    pod = a_pod(volumeMounts=[{"name": "data", "mountPath": path, **fields}])
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    return pod


def files(path: str = "/var/log/katib/metrics.log") -> CollectionPlan:
    return replace(PLAN, collector="File", metrics_path=path)


def sidecar_of(pod: Json) -> Json:
    found: Json = pod["spec"]["initContainers"][0]
    return found


def restricted_faults(pod: Json) -> list[str]:
    """Pod Security "restricted" v1.30 for containers and volumes, as far as a pod here can break
    it; from the standard's text."""
    spec, faults = pod["spec"], []
    allowed = {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "csi", "ephemeral"}
    for volume in spec.get("volumes") or []:
        if not (volume.keys() - {"name"}) <= allowed | {"persistentVolumeClaim"}:
            faults.append(f"volume {volume['name']}")
    if spec.get("shareProcessNamespace") or spec.get("hostPID"):
        faults.append("process namespace")
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        context = container.get("securityContext") or {}
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            faults.append(f"{container['name']}: privileges")
        capabilities = context.get("capabilities") or {}
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            faults.append(f"{container['name']}: capabilities")
        if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
            faults.append(f"{container['name']}: root")
        if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
            faults.append(f"{container['name']}: seccomp")
    return faults


def test_a_pod_that_passes_restricted_still_does() -> None:
    pod = a_pod(securityContext=RESTRICTED)
    assert restricted_faults(a_pod()) != []
    assert restricted_faults(inject(pod, files(), SETTINGS)) == []
    platform = replace(SETTINGS, run_as_user=None)
    assert restricted_faults(inject(pod, PLAN, platform)) == []


def test_only_the_sidecar_sees_the_token() -> None:
    spec = inject(a_pod(), PLAN, SETTINGS)["spec"]
    (volume,) = [v for v in spec["volumes"] if "projected" in v]
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {
        "path": "token",
        "audience": "tunesmith.dev/observation",
        "expirationSeconds": 600,
    }
    users = [
        c["name"]
        for c in [*spec["initContainers"], *spec["containers"]]
        if any(m["name"] == volume["name"] for m in c["volumeMounts"])
    ]
    assert users == ["metrics-logger-and-collector"]


def test_training_begins_only_when_the_launcher_is_there() -> None:
    sidecar = sidecar_of(inject(a_pod(), PLAN, SETTINGS))
    assert sidecar["restartPolicy"] == "Always"
    command = ["/usr/local/bin/tunesmith-launcher", "copy", "/tunesmith/launcher"]
    assert sidecar["lifecycle"] == {"postStart": {"exec": {"command": command}}}


def test_a_container_that_is_not_there_is_refused_with_those_that_are() -> None:
    pod = a_pod()
    pod["spec"]["containers"].append({"name": "proxy"})
    with pytest.raises(Invalid, match="no container named 'trainer'; there is: main, proxy"):
        inject(pod, replace(PLAN, primary_container="trainer"), SETTINGS)


def test_without_a_name_the_only_container_is_meant() -> None:
    injected = inject(a_pod(), replace(PLAN, primary_container=""), SETTINGS)
    assert injected["spec"]["containers"][0]["command"][0] == "/tunesmith/launcher"


@pytest.mark.parametrize(
    ("entrypoint", "image_args", "args", "argv"),
    [
        (("python",), ("default.py",), [], ["python", "default.py"]),
        (("python",), ("default.py",), ["mine.py"], ["python", "mine.py"]),
        ((), ("train", "--fast"), [], ["train", "--fast"]),
        (("sh", "-c"), ("echo $HOME $(date)",), [], ["sh", "-c", "echo $$HOME $$(date)"]),
        (("run",), (), ["$(KATIB_TRIAL_NAME)"], ["run", "$(KATIB_TRIAL_NAME)"]),
    ],
)
def test_what_the_image_says_is_run_where_the_container_says_nothing(
    entrypoint: tuple[str, ...], image_args: tuple[str, ...], args: list[str], argv: list[str]
) -> None:
    pod = a_pod(command=None, args=args)
    plan = replace(PLAN, entrypoint=entrypoint, image_args=image_args)
    assert collection_mode(pod, plan) is CollectionMode.LAUNCHER
    main = inject(pod, plan, SETTINGS)["spec"]["containers"][0]
    assert main["command"] == ["/tunesmith/launcher", "--", *argv]


def test_an_unknown_argv_is_left_alone_and_read_from_the_pods_log() -> None:
    pod = a_pod(command=None, args=["--fast"])
    injected = inject(pod, PLAN, SETTINGS)
    main = injected["spec"]["containers"][0]
    assert (main["command"], main["args"]) == (None, ["--fast"])
    assert "podLog" in sidecar_of(injected)["args"]
    assert collection_mode(injected, PLAN) is CollectionMode.POD_LOG


def test_the_metrics_folder_is_a_volume_of_both() -> None:
    spec = inject(a_pod(), files(), SETTINGS)["spec"]
    mount = {"name": "tunesmith-metrics", "mountPath": "/var/log/katib"}
    assert mount in spec["containers"][0]["volumeMounts"]
    assert {**mount, "readOnly": True} in spec["initContainers"][0]["volumeMounts"]


@pytest.mark.parametrize("path", ["/var/log/katib", "/var/log/", "/"])
def test_a_metrics_folder_on_a_volume_of_the_users_is_read_there(path: str) -> None:
    pod = with_mount(path, subPath="x")
    spec = inject(pod, files(), SETTINGS)["spec"]
    mount = {"name": "data", "mountPath": path, "subPath": "x", "readOnly": True}
    assert mount in spec["initContainers"][0]["volumeMounts"]
    assert [m["mountPath"] for m in spec["containers"][0]["volumeMounts"]] == [path, "/tunesmith"]


def test_names_of_the_users_volumes_are_no_problem() -> None:
    pod = a_pod()
    pod["spec"]["volumes"] = [{"name": "tunesmith", "emptyDir": {}}]
    spec = inject(pod, PLAN, SETTINGS)["spec"]
    names = ["tunesmith", "tunesmith-2", "tunesmith-identity"]
    assert [volume["name"] for volume in spec["volumes"]] == names
    assert {"name": "tunesmith-2", "mountPath": "/tunesmith"} in (
        spec["containers"][0]["volumeMounts"]
    )


@pytest.mark.parametrize(
    ("pod", "plan", "words"),
    [
        (with_mount("/tunesmith/"), PLAN, "mounts a volume at /tunesmith"),
        (with_mount("/var/log", subPathExpr="$(A)"), files(), "subPathExpr"),
        (a_pod(), files("/metrics.log"), "not in a folder of its own"),
        (a_pod(), files("metrics.log"), "not in a folder of its own"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    pod: Json, plan: CollectionPlan, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        inject(pod, plan, SETTINGS)


def test_katibs_own_collector_in_the_pod_is_refused() -> None:
    pod = a_pod()
    pod["spec"]["containers"].append({"name": "metrics-logger-and-collector", "image": "k"})
    with pytest.raises(Invalid, match="remove it if it is Katib's"):
        inject(pod, PLAN, SETTINGS)


def test_a_windows_pod_is_refused() -> None:
    pod = a_pod()
    pod["spec"]["os"] = {"name": "windows"}
    with pytest.raises(Invalid, match="Windows"):
        inject(pod, PLAN, SETTINGS)


def test_a_limit_of_disk_on_the_sidecar_never_becomes_one_of_the_whole_pod() -> None:
    resources = {"limits": {"ephemeral-storage": "5Gi", "memory": "1Gi"}}
    settings = replace(SETTINGS, resources=resources)
    free = sidecar_of(inject(a_pod(), PLAN, settings))["resources"]
    assert free == {"limits": {"memory": "1Gi"}}
    bound = a_pod(resources={"limits": {"ephemeral-storage": "1Gi"}})
    assert sidecar_of(inject(bound, PLAN, settings))["resources"] == resources
    limits = sidecar_of(inject(bound, PLAN, SETTINGS))["resources"]["limits"]
    assert limits["ephemeral-storage"] == SETTINGS.volume_limit


def test_the_sidecar_knows_how_long_it_may_take_to_end() -> None:
    pod = a_pod()
    arguments = sidecar_of(inject(pod, PLAN, SETTINGS))["args"]
    assert arguments[arguments.index("--grace") + 1] == "30"
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    arguments = sidecar_of(inject(pod, PLAN, SETTINGS))["args"]
    assert arguments[arguments.index("--grace") + 1] == "0"


def test_a_plan_is_made_from_a_run() -> None:
    run = TrialRun(Key("Trial", "ns", "t1"), "uid-1", 2, {}, "main", metrics=["loss"])
    assert CollectionPlan.from_run(run) == PLAN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "no JSON object"),
        ("{}", "lacks attempt, namespace, primaryContainer, trialName, trialUid"),
        (PLAN.to_json().replace("2", '"2"'), "attempt"),
        (PLAN.to_json().replace('["loss"]', '"loss"'), "metrics"),
    ],
)
def test_an_annotation_that_is_no_plan_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        plan_of({"metadata": {"annotations": {"tunesmith.dev/collection": text}}})


def test_a_pod_without_the_annotation_has_no_plan() -> None:
    assert plan_of({"metadata": {}}) is None
    assert plan_of({"metadata": {"annotations": None}}) is None
