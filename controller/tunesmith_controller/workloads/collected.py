# SPDX-License-Identifier: Apache-2.0
"""Workloads on one machine with their metrics collected: what a sidecar does in a pod.

Wraps `ProcessWorkloads`: an attempt that is seen running gets a collector on its files, one that
is seen over tells its collector that nothing will follow. All of it is repeated after a restart,
from the offsets that were acknowledged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from tunesmith_controller.ports import JobPresent, JobState, Json, Key, TrialRun
from tunesmith_controller.workloads.process import ProcessWorkloads
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet


class CollectedWorkloads:
    """The `Workloads` port over processes and their collectors."""

    def __init__(self, processes: ProcessWorkloads, fleet: CollectorFleet) -> None:
        self._processes = processes
        self._fleet = fleet

    async def ensure(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.ensure(run))

    async def observe(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.observe(run))

    async def stop(self, run: TrialRun) -> None:
        await self._processes.stop(run)

    async def release(self, run: TrialRun) -> None:
        await self._processes.release(run)

    async def remove(self, trial_uid: str) -> None:
        await self._fleet.forget(trial_uid)
        await self._processes.remove(trial_uid)

    def changed(self) -> AsyncIterator[Key]:
        return self._processes.changed()

    def _seen(self, run: TrialRun, state: JobState) -> JobState:
        if isinstance(state, JobPresent):
            self._fleet.start(self._collected(run))
            if _is_over(state.manifest):
                self._fleet.finish(run.trial_uid, run.attempt)
        return state

    def _collected(self, run: TrialRun) -> CollectedAttempt:
        return CollectedAttempt(
            trial_uid=run.trial_uid,
            attempt=run.attempt,
            trial_name=run.trial.name,
            namespace=run.trial.namespace,
            output=self._processes.output_path(run.trial_uid, run.attempt),
            metrics_file=self._processes.metrics_path(run.trial_uid, run.attempt),
            metrics=tuple(run.metrics),
            filters=tuple(run.filters),
        )


def _is_over(manifest: Json) -> bool:
    """Whether a process job says Complete or Failed: all of its processes have ended."""
    conditions = (manifest.get("status") or {}).get("conditions") or []
    return any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions
    )
