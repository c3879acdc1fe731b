# SPDX-License-Identifier: Apache-2.0
"""What a trial's pod tells of its attempt: whose it is, whether it began, what keeps it from it.

Pure; `KubernetesWorkloads` keeps these facts of every pod with a trial's label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.admission.collection import ANNOTATION_ATTEMPT, ANNOTATION_TRIAL_UID
from tunesmith_controller.ports import Json

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
    outside (eviction, preemption, a lost node)."""

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
    )


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
