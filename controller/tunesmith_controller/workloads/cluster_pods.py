# SPDX-License-Identifier: Apache-2.0
"""What a trial's pod tells of its attempt: whose it is, whether it began, what keeps it from it.

Pure; `KubernetesWorkloads` keeps these facts of every pod with a trial's label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.admission.collection import (
    ANNOTATION_ATTEMPT,
    ANNOTATION_TRIAL_UID,
    plan_of,
)
from tunesmith_controller.admission.pods import (
    SIDECAR,
    CollectionMode,
    is_ours,
    primary_container,
)
from tunesmith_controller.ports import Invalid, Json
from tunesmith_metrics_collector.unsent import UNSENT_ROWS

_CANNOT_START: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "PreCreateHookError",
        "PreStartHookError",
        "RegistryUnavailable",
        "RunContainerError",
        "SignatureValidationFailed",
    }
)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`attempt` is 0 where the pod does not say; `began` when a container of it ran; `hindrance` is
    why none does, `failing` that one ends again and again, `disrupted` what ended the pod from
    outside (eviction, preemption, a lost node). `ended_well`: all its containers have exited with
    0, though the pod may still be winding up. `is_read`: what it prints is read from its log, of
    the container `primary`. `has_unsent`: its collector left rows in its own log."""

    namespace: str
    name: str
    uid: str
    trial: str
    trial_uid: str
    attempt: int
    began: bool
    over: bool
    hindrance: str
    failing: str
    disrupted: str
    ended_well: bool = False
    is_read: bool = False
    primary: str = ""
    has_unsent: bool = False


def pod_facts(pod: Json) -> PodFacts:
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    phase = status.get("phase") or "Pending"
    attempt = str(annotations.get(ANNOTATION_ATTEMPT, ""))
    return PodFacts(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        trial=(metadata.get("labels") or {}).get(names.LABEL_TRIAL, ""),
        trial_uid=str(annotations.get(ANNOTATION_TRIAL_UID, "")),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        began=phase != "Pending" or any(_ran(each) for each in _main(status)),
        over=phase in ("Succeeded", "Failed"),
        hindrance=_hindrance(metadata["name"], status) if phase == "Pending" else "",
        failing=_failing(metadata["name"], status),
        disrupted=_disrupted(status) if phase == "Failed" else "",
        ended_well=_ended_well(pod),
        **_collection(pod),
    )


def _ended_well(pod: Json) -> bool:
    metadata, status = pod["metadata"], pod.get("status") or {}
    codes = {each["name"]: _exit_code(each) for each in _main(status)}
    wanted = [each["name"] for each in (pod.get("spec") or {}).get("containers") or []]
    if not wanted or metadata.get("deletionTimestamp"):
        return False
    return all(codes.get(name) == 0 for name in wanted)


def _exit_code(container: Json) -> int | None:
    ended = (container.get("state") or {}).get("terminated")
    return None if ended is None else int(ended["exitCode"])


def _collection(pod: Json) -> dict[str, Any]:
    """What of the pod's output is to be fetched, by what its collector was told and has left."""
    spec = pod.get("spec") or {}
    sidecar = next((each for each in spec.get("initContainers") or [] if is_ours(each)), None)
    if sidecar is None:
        return {}
    is_read = str(CollectionMode.POD_LOG) in (sidecar.get("args") or [])
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or []
    ended = next((_ended(each) for each in statuses if each["name"] == SIDECAR), {})
    has_unsent = UNSENT_ROWS in (ended.get("message") or "")
    primary = _printing(pod) if is_read else ""
    return {"is_read": bool(primary), "primary": primary, "has_unsent": has_unsent}


def _printing(pod: Json) -> str:
    """The container whose output counts; empty where none does, or nobody can say which."""
    try:
        plan = plan_of(pod)
        if plan is None or plan.collector != "StdOut":
            return ""
        return str(primary_container(pod["spec"], plan)["name"])
    except Invalid:
        return ""


def _ended(container: Json) -> Json:
    return (container.get("state") or {}).get("terminated") or {}


def _main(status: Mapping[str, Any]) -> list[Json]:
    return list(status.get("containerStatuses") or [])


def _ran(container: Json) -> bool:
    state = container.get("state") or {}
    return "running" in state or "terminated" in state


def _hindrance(name: str, status: Mapping[str, Any]) -> str:
    condition = _condition(status, "PodScheduled")
    if condition.get("status") == "False":
        said = condition.get("message") or condition.get("reason") or "no node takes it"
        return f"pod {name} is not scheduled: {said}"
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _CANNOT_START or (reason == "CrashLoopBackOff" and not _is_main(container)):
            said = f": {waiting['message']}" if waiting.get("message") else ""
            return f"container {container['name']} of pod {name} cannot start, {reason}{said}"
    return ""


def _failing(name: str, status: Mapping[str, Any]) -> str:
    for container in _main(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") == "CrashLoopBackOff":
            ended = (container.get("lastState") or {}).get("terminated") or {}
            how = f"exit status {ended.get('exitCode')}" if ended else "an unknown exit status"
            said = f": {ended['message'].strip()}" if ended.get("message") else ""
            times = container.get("restartCount", 0)
            return (
                f"container {container['name']} of pod {name} ends with {how}{said}, and was "
                f"started again {times} times; see `kubectl logs {name} --previous`"
            )
    return ""


def _containers(status: Mapping[str, Any]) -> Iterator[Json]:
    for field, main in (("initContainerStatuses", False), ("containerStatuses", True)):
        yield from ({**each, "_main": main} for each in status.get(field) or [])


def _is_main(container: Json) -> bool:
    return bool(container["_main"])


def _disrupted(status: Mapping[str, Any]) -> str:
    condition = _condition(status, "DisruptionTarget")
    if condition.get("status") != "True":
        return ""
    reason = condition.get("reason") or "disrupted"
    message = condition.get("message")
    return f"{reason}: {message}" if message else str(reason)


def _condition(status: Mapping[str, Any], type_: str) -> Json:
    for condition in status.get("conditions") or []:
        if condition.get("type") == type_:
            found: Json = condition
            return found
    return {}
