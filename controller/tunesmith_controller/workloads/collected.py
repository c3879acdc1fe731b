# SPDX-License-Identifier: Apache-2.0
"""Workloads on one machine with their metrics collected: what a sidecar does in a pod.

Wraps `ProcessWorkloads`: an attempt that is seen running gets a collector on its files, one that
is seen over tells its collector that nothing will follow. All of it is repeated after a restart,
from the offsets that were acknowledged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from tunesmith_controller.ports import (
    JobPresent,
    JobState,
    Key,
    TrialRun,
)
from tunesmith_controller.workloads.process import ProcessWorkloads


class Fleet(Protocol):
    """Collectors of attempts; all calls are idempotent."""

    def start(self, run: TrialRun, output: Path, metrics_file: Path) -> None: ...

    def finish(self, run: TrialRun) -> None:
        """The attempt is over: read to the end, then report the end."""
        ...

    async def forget(self, trial_uid: str) -> None:
        """Ends the collectors of a trial without reading on."""
        ...


class CollectedWorkloads:
    """The `Workloads` port; `is_over` tells from a job's manifest that its processes have ended."""

    def __init__(
        self, processes: ProcessWorkloads, fleet: Fleet, is_over: Callable[[JobPresent], bool]
    ) -> None:
        self._processes = processes
        self._fleet = fleet
        self._is_over = is_over

    async def ensure(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.ensure(run))

    async def observe(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.observe(run))

    async def stop(self, run: TrialRun) -> None:
        await self._processes.stop(run)

    async def release(self, run: TrialRun) -> None:
        self._fleet.finish(run)
        await self._processes.release(run)

    async def remove(self, trial_uid: str) -> None:
        await self._fleet.forget(trial_uid)
        await self._processes.remove(trial_uid)

    def changed(self) -> AsyncIterator[Key]:
        return self._processes.changed()

    def _seen(self, run: TrialRun, state: JobState) -> JobState:
        if isinstance(state, JobPresent):
            output = self._processes.output_path(run.trial_uid, run.attempt)
            metrics_file = self._processes.metrics_path(run.trial_uid, run.attempt)
            self._fleet.start(run, output, metrics_file)
            if self._is_over(state):
                self._fleet.finish(run)
        return state
