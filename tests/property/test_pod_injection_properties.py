# SPDX-License-Identifier: Apache-2.0
"""Whatever the pod: its collector goes in once, argv arrives byte for byte, all else stays."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tunesmith_controller.admission.collection import CollectionPlan, mark, plan_of
from tunesmith_controller.admission.pods import (
    SIDECAR,
    CollectionMode,
    InjectionSettings,
    collection_mode,
    inject,
)

SETTINGS = InjectionSettings(image="test.local/tunesmith:1")
TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("$()'\"\\\n ;|&`"), max_size=12
)
NAME = st.sampled_from(["main", "side", "a", "b", "tunesmith", "tunesmith-2", "istio-proxy"])
PATH = st.sampled_from(["/data", "/var/log", "/var/log/katib", "/out", "/opt/x", "rel"])
VARIABLE = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "KATIB_TRIAL_NAME", "TUNESMITH_STOP_FILE"]), "value": TEXT}
)
MOUNT = st.fixed_dictionaries({"name": NAME, "mountPath": PATH})
CONTAINER = st.fixed_dictionaries(
    {"name": NAME, "image": TEXT},
    optional={
        "command": st.lists(TEXT, max_size=3),
        "args": st.lists(TEXT, max_size=3),
        "env": st.lists(VARIABLE, max_size=3),
        "volumeMounts": st.lists(MOUNT, max_size=2, unique_by=lambda m: str(m["mountPath"])),
        "resources": st.just({"limits": {"ephemeral-storage": "1Gi", "cpu": "1"}}),
        "tty": st.booleans(),
    },
)
VOLUMES = st.lists(
    st.fixed_dictionaries({"name": NAME, "emptyDir": st.just({})}),
    unique_by=lambda volume: str(volume["name"]),
)
METADATA = st.fixed_dictionaries(
    {}, optional={"labels": st.dictionaries(TEXT, TEXT), "annotations": st.dictionaries(TEXT, TEXT)}
)
PLANS = st.builds(
    CollectionPlan,
    trial_name=TEXT,
    namespace=TEXT,
    trial_uid=TEXT,
    attempt=st.integers(0, 9),
    primary_container=st.just("main"),
    metrics=st.lists(TEXT).map(tuple),
    filters=st.lists(TEXT).map(tuple),
    collector=st.sampled_from(["StdOut", "File", "Push"]),
    metrics_path=st.sampled_from(["", "/var/log/katib/m.log", "/data/deep/m.json", "/tunesmith/m"]),
    metrics_format=st.sampled_from(["TEXT", "JSON"]),
    entrypoint=st.lists(TEXT, max_size=2).map(tuple),
    image_args=st.lists(TEXT, max_size=2).map(tuple),
)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    others = draw(st.lists(CONTAINER, max_size=2, unique_by=lambda c: c["name"]))
    containers = [c for c in others if c["name"] != "main"]
    place = draw(st.integers(0, len(containers)))
    containers.insert(place, {**draw(CONTAINER), "name": "main"})
    spec: dict[str, Any] = {"containers": containers}
    for key, values in (
        ("initContainers", st.lists(CONTAINER, max_size=2)),
        ("volumes", VOLUMES),
        ("terminationGracePeriodSeconds", st.integers(0, 300)),
        ("restartPolicy", st.sampled_from(["Never", "OnFailure"])),
    ):
        if draw(st.booleans()):
            spec[key] = draw(values)
    return {"metadata": draw(METADATA), "spec": spec}


def kubernetes_expands(text: str) -> str:
    """Of what Kubernetes makes of a text, the part that matters where no reference resolves."""
    return text.replace("$$", "$")


@given(pods(), PLANS)
def test_a_second_injection_changes_nothing(pod: dict[str, Any], plan: CollectionPlan) -> None:
    once = inject(pod, plan, SETTINGS)
    again = inject(once, plan, InjectionSettings(image="another", volume_limit="1Mi"))
    assert again == once


@given(pods(), PLANS)
def test_taking_our_parts_out_again_gives_the_pod_that_was_given(
    pod: dict[str, Any], plan: CollectionPlan
) -> None:
    before = copy.deepcopy(pod)
    spec = inject(pod, plan, SETTINGS)["spec"]
    assert pod == before, "the argument was changed"
    assert spec["initContainers"][0]["name"] == SIDECAR
    assert spec["initContainers"][1:] == (pod["spec"].get("initContainers") or [])
    theirs = pod["spec"].get("volumes") or []
    assert spec["volumes"][: len(theirs)] == theirs
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(names) == len(set(names))
    touched = {"initContainers", "volumes", "containers"}
    assert {k: v for k, v in spec.items() if k not in touched} == {
        k: v for k, v in pod["spec"].items() if k not in touched
    }
    for ours, original in zip(spec["containers"], pod["spec"]["containers"], strict=True):
        if original["name"] == "main":
            _assert_only_wrapped(ours, original)
        else:
            assert ours == original


def _assert_only_wrapped(ours: dict[str, Any], original: dict[str, Any]) -> None:
    touched = {"command", "args", "env", "volumeMounts"}
    assert {k: v for k, v in ours.items() if k not in touched} == {
        k: v for k, v in original.items() if k not in touched
    }
    mounts = original.get("volumeMounts") or []
    assert ours["volumeMounts"][: len(mounts)] == mounts
    paths = [mount["mountPath"] for mount in ours["volumeMounts"]]
    assert len(paths) == len(set(paths))
    own = [e for e in original.get("env") or [] if e["name"] == "A"]
    assert [e for e in ours["env"] if e["name"] == "A"] == own


@given(pods(), PLANS)
def test_the_program_is_the_one_that_the_container_would_have_run(
    pod: dict[str, Any], plan: CollectionPlan
) -> None:
    original = next(c for c in pod["spec"]["containers"] if c["name"] == "main")
    injected = inject(pod, plan, SETTINGS)
    main = next(c for c in injected["spec"]["containers"] if c["name"] == "main")
    command, args = original.get("command") or [], original.get("args") or []
    if collection_mode(pod, plan) is CollectionMode.POD_LOG:
        assert (main.get("command"), main.get("args")) == (
            original.get("command"),
            original.get("args"),
        )
        return
    assert main["command"][:2] == ["/tunesmith/launcher", "--"]
    assert "args" not in main
    if command:
        assert main["command"][2:] == [*command, *args]
    else:
        said = [*(kubernetes_expands(t) for t in main["command"][2 : 2 + len(plan.entrypoint)])]
        assert said == list(plan.entrypoint)
        rest = main["command"][2 + len(plan.entrypoint) :]
        expected = args or list(plan.image_args)
        assert rest == args if args else [kubernetes_expands(t) for t in rest] == expected


@given(METADATA, PLANS)
def test_a_plan_is_read_back_from_the_pod_that_carries_it(
    metadata: dict[str, Any], plan: CollectionPlan
) -> None:
    marked = json.loads(json.dumps({"metadata": mark(metadata, plan)}))
    assert plan_of(marked) == plan
    assert mark(mark(metadata, plan), plan) == mark(metadata, plan)


@given(pods(), PLANS)
def test_the_sidecar_is_given_the_plan_as_it_is(pod: dict[str, Any], plan: CollectionPlan) -> None:
    sidecar = inject(pod, plan, SETTINGS)["spec"]["initContainers"][0]
    value = next(e["value"] for e in sidecar["env"] if e["name"] == "TUNESMITH_COLLECTION")
    assert CollectionPlan.from_json(kubernetes_expands(value)) == plan
