# SPDX-License-Identifier: Apache-2.0
"""Pods made from Trials: one for an attempt that has begun, with the labels clients look for.

A pod shows what a cluster's would: phase, containers, owner. Its log is the output of the attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from tunesmith_api import names
from tunesmith_controller.ports import Json, Key, NotFound, ObjectStore

COLLECTOR: Final = "metrics-logger-and-collector"
_CHUNK: Final = 64 * 1024
_POLL_S: Final = 0.1
_ENDS: Final = ("Succeeded", "Failed", "MetricsUnavailable", "EarlyStopped", "Killed")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which trial and which attempt of it a pod stands for."""

    trial: Json
    number: int

    @property
    def uid(self) -> str:
        return str(self.trial["metadata"]["uid"])


def pods_of(trial: Json) -> list[Json]:
    """The pod of a trial's current attempt, if it has begun."""
    run = (trial.get("status") or {}).get("run") or {}
    return [_pod(trial, run)] if run.get("jobUID") else []


def pod_name(trial: Json) -> str:
    run = (trial.get("status") or {}).get("run") or {}
    return f"{trial['metadata']['name']}-{run.get('attempt', 0)}"


async def find_attempt(store: ObjectStore, namespace: str, pod: str) -> Attempt:
    """What a pod stands for. Raises NotFound, Unavailable."""
    name, _, number = pod.rpartition("-")
    trial = await store.get(Key("Trial", namespace, name)) if name else None
    if trial is None or pod_name(trial) != pod or not pods_of(trial):
        raise NotFound(f'pods "{pod}" not found')
    return Attempt(trial, int(number))


def _pod(trial: Json, run: Json) -> Json:
    metadata, spec = trial["metadata"], trial["spec"]
    phase = _phase(trial)
    primary = spec.get("primaryContainerName") or "main"
    containers = [primary]
    if _collector(spec) not in ("Push", "Custom", "None"):
        containers.append(COLLECTOR)
    labels = {
        **(metadata.get("labels") or {}),
        **(spec.get("primaryPodLabels") or {}),
        names.LABEL_TRIAL: metadata["name"],
        "job-name": metadata["name"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(trial),
            "namespace": metadata["namespace"],
            "uid": run["jobUID"],
            "resourceVersion": metadata.get("resourceVersion", ""),
            "creationTimestamp": run.get("startedAt") or metadata.get("creationTimestamp"),
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": trial["apiVersion"],
                    "kind": "Trial",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"restartPolicy": "Never", "containers": [{"name": n} for n in containers]},
        "status": {
            "phase": phase,
            "startTime": run.get("startedAt"),
            "containerStatuses": [_container(name, phase) for name in containers],
        },
    }


def _collector(spec: Json) -> str:
    collector = (spec.get("metricsCollector") or {}).get("collector") or {}
    return str(collector.get("kind") or "StdOut")


def _container(name: str, phase: str) -> Json:
    is_running = phase == "Running"
    exit_code = 0 if phase == "Succeeded" else 1
    state: Json = {"running": {}} if is_running else {"terminated": {"exitCode": exit_code}}
    return {
        "name": name,
        "ready": is_running,
        "restartCount": 0,
        "image": "",
        "imageID": "",
        "state": state,
    }


def _phase(trial: Json) -> str:
    match _state(trial):
        case "Succeeded" | "MetricsUnavailable" | "EarlyStopped":
            return "Succeeded"
        case "Failed" | "Killed":
            return "Failed"
        case _:
            return "Running"


def _state(trial: Json) -> str:
    conditions = (trial.get("status") or {}).get("conditions") or [{}]
    return str(conditions[-1].get("type", ""))


# ---- logs ---------------------------------------------------------------------------------------

Output = Callable[[str, int], Path]


async def log(
    store: ObjectStore, attempt: Attempt, output: Output, *, follow: bool, tail: int | None
) -> AsyncIterator[bytes]:
    """What an attempt has printed, and what it goes on to print until it has ended."""
    path = anyio.Path(output(attempt.uid, attempt.number))
    position = await _tail_position(path, tail)
    while True:
        # Asked before reading: what was written before the end is read after it.
        goes_on = follow and await _runs(store, attempt)
        async for chunk in _read(path, position):
            position += len(chunk)
            yield chunk
        if not goes_on:
            return
        await anyio.sleep(_POLL_S)


async def _runs(store: ObjectStore, attempt: Attempt) -> bool:
    metadata = attempt.trial["metadata"]
    try:
        trial = await store.get(Key("Trial", metadata["namespace"], metadata["name"]))
    except NotFound:
        return False
    run = (trial.get("status") or {}).get("run") or {}
    same = trial["metadata"]["uid"] == attempt.uid and run.get("attempt") == attempt.number
    return same and _state(trial) not in _ENDS


async def _read(path: anyio.Path, position: int) -> AsyncIterator[bytes]:
    try:
        async with await path.open("rb") as file:
            await file.seek(position)
            while chunk := await file.read(_CHUNK):
                yield chunk
    except FileNotFoundError:
        return


async def _tail_position(path: anyio.Path, lines: int | None) -> int:
    """Where the last lines begin; of a long file its last 16 MiB are looked at."""
    if lines is None or not await path.exists():
        return 0
    size = (await path.stat()).st_size
    start = max(0, size - 16 * 1024 * 1024)
    async with await path.open("rb") as file:
        await file.seek(start)
        data = await file.read(size - start)
    if lines <= 0:
        return size
    ends = [i for i, byte in enumerate(data[:-1]) if byte == 0x0A]
    return start + (ends[-lines] + 1 if len(ends) >= lines else 0)
