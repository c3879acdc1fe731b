# SPDX-License-Identifier: Apache-2.0
"""Jobs without a kubelet: each is told Complete or Failed as soon as it is there, as the job
controller would, and its metrics are reported as a sidecar would. For the API tier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tunesmith_api.metrics import Row
from tunesmith_api.observations import ObservationLog, Report, SourceKey
from tunesmith_controller.ports import Change, Expired, Json, Key, PortError
from tunesmith_controller.stores.rest import Resource, RestStore
from tunesmith_controller.stores.rest_transport import ApiTransport

MANAGER = "tunesmith.dev/test"
"""In spec.managedBy of a Job that the cluster's own controller shall leave alone."""

JOBS: Mapping[str, Resource] = {"Job": Resource("batch/v1", "jobs")}
Metrics = Callable[[Json], Mapping[str, float]]
"""What a job's program would print."""


class CompletedJobs:
    """Ends every Job that is managed by `MANAGER`. `run` until cancelled."""

    def __init__(self, transport: ApiTransport, log: ObservationLog, metrics: Metrics) -> None:
        self._store = RestStore(transport, resources=JOBS)
        self._log = log
        self._metrics = metrics
        self._seen: set[str] = set()
        self.ended: list[str] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as ending:
            while True:
                await self._follow(ending)

    async def _follow(self, ending: asyncio.TaskGroup) -> None:
        try:
            async for event in self._store.watch("Job"):
                job = event.object
                is_ours = job.get("spec", {}).get("managedBy") == MANAGER
                if event.change is not Change.ADDED or not is_ours:
                    continue
                uid = job["metadata"]["uid"]
                if uid not in self._seen and not job.get("status", {}).get("conditions"):
                    self._seen.add(uid)
                    ending.create_task(self._end(job))
        except (Expired, PortError):
            await asyncio.sleep(0.1)

    async def _end(self, job: Json) -> None:
        metadata = job["metadata"]
        annotations = metadata["annotations"]
        uid, attempt = annotations["tunesmith.dev/trial-uid"], annotations["tunesmith.dev/attempt"]
        key = SourceKey(uid, int(attempt), "stdout")
        rows = [
            Row(seq, name, repr(value))
            for seq, (name, value) in enumerate(self._metrics(job).items(), 1)
        ]
        name, namespace = metadata["name"], metadata["namespace"]
        await self._log.append(Report(key, rows, 100, name, namespace, True))
        await self._store.patch(Key("Job", namespace, name), {"status": complete()}, status=True)
        self.ended.append(name)


def complete() -> dict[str, Any]:
    """The status of a Job that has succeeded."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods",
            "lastProbeTime": now,
            "lastTransitionTime": now,
        }
        for type_ in ("SuccessCriteriaMet", "Complete")
    ]
    return {
        "conditions": conditions,
        "startTime": now,
        "completionTime": now,
        "succeeded": 1,
        "uncountedTerminatedPods": {},
    }
