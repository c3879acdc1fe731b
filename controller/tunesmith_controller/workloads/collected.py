# SPDX-License-Identifier: Apache-2.0
"""Workloads on one machine with their metrics collected: what a sidecar does in a pod.

Wraps `ProcessWorkloads`: an attempt that is seen running gets a collector on its files, one that
is seen over tells its collector that nothing will follow. All of it is repeated after a restart,
from the offsets that were acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from tunesmith_controller.ports import JobPresent, JobState, Json, Key, TrialRun
from tunesmith_controller.workloads.process import ProcessWorkloads
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet, MetricsFile

HINT_SECONDS: Final = 0.2
"""A trial is named at most once in this time because of rows."""


class CollectedWorkloads:
    """The `Workloads` port over processes and their collectors. Takes the fleet's `on_rows`."""

    def __init__(self, processes: ProcessWorkloads, fleet: CollectorFleet) -> None:
        self._processes = processes
        self._fleet = fleet
        self._trials: dict[str, Key] = {}
        self._hints = TrialHints(HINT_SECONDS)
        fleet.on_rows(self.rows_arrived)

    async def ensure(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.ensure(run))

    async def observe(self, run: TrialRun) -> JobState:
        return self._seen(run, await self._processes.observe(run))

    async def stop(self, run: TrialRun) -> None:
        await self._processes.stop(run)

    async def release(self, run: TrialRun) -> None:
        await self._processes.release(run)
        self._trials.pop(run.trial_uid, None)

    async def sweep(self, trial: Key, trial_uid: str) -> None:
        await self._processes.sweep(trial, trial_uid)

    async def remove(self, trial_uid: str) -> None:
        self._trials.pop(trial_uid, None)
        await self._fleet.forget(trial_uid)
        await self._processes.remove(trial_uid)

    async def changed(self) -> AsyncIterator[Key]:
        """Also names a trial soon after rows of it were stored, so that it is judged on them."""
        keys: asyncio.Queue[Key | None] = asyncio.Queue()
        forwarding = asyncio.create_task(self._forward(keys))
        try:
            with self._hints.told_to(keys):
                while (key := await keys.get()) is not None:
                    yield key
            await forwarding
        finally:
            forwarding.cancel()
            await asyncio.wait([forwarding])

    async def _forward(self, keys: asyncio.Queue[Key | None]) -> None:
        """Ends with None, whatever ended it."""
        try:
            async for key in self._processes.changed():
                keys.put_nowait(key)
        finally:
            keys.put_nowait(None)

    def rows_arrived(self, trial_uid: str) -> None:
        """Rows of a trial were stored, by a collector or otherwise; for the event loop's thread."""
        if trial_uid in self._trials:
            self._hints.give(self._trials[trial_uid])

    def _seen(self, run: TrialRun, state: JobState) -> JobState:
        if isinstance(state, JobPresent):
            self._trials[run.trial_uid] = run.trial
            self._fleet.start(self._collected(run))
            if _is_over(state.manifest):
                self._fleet.finish(run.trial_uid, run.attempt)
        return state

    def _collected(self, run: TrialRun) -> CollectedAttempt:
        """Of kind File the file is read and nothing that is printed, as in Katib; of kind Push
        neither. What the program reports by `tunesmith.report` counts with every kind."""
        output = self._processes.output_path(run.trial_uid, run.attempt)
        return CollectedAttempt(
            trial_uid=run.trial_uid,
            attempt=run.attempt,
            trial_name=run.trial.name,
            namespace=run.trial.namespace,
            output=None if run.collector in ("File", "Push") else output,
            metrics_file=self._processes.metrics_path(run.trial_uid, run.attempt),
            metrics=tuple(run.metrics),
            filters=tuple(run.filters),
            file=self._metrics_file(run) if run.collector == "File" else None,
        )

    def _metrics_file(self, run: TrialRun) -> MetricsFile:
        return MetricsFile(
            self._processes.metrics_target(run), run.metrics_format or "TEXT", run.metrics_path
        )


class TrialHints:
    """Tells queues that something is new about a trial: at once, then at most once in `seconds` a
    trial, the last time never left out. For one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._queues: list[asyncio.Queue[Key | None]] = []
        # Trials that were named a short while ago, and whether more is new since then.
        self._named: dict[Key, bool] = {}

    @contextmanager
    def told_to(self, queue: asyncio.Queue[Key | None]) -> Iterator[None]:
        """While this lasts, hints go to the queue."""
        self._queues.append(queue)
        try:
            yield
        finally:
            self._queues.remove(queue)

    def give(self, trial: Key) -> None:
        """Something is new."""
        if trial in self._named:
            self._named[trial] = True
            return
        self._named[trial] = False
        asyncio.get_running_loop().call_later(self._seconds, self._again, trial)
        for queue in self._queues:
            queue.put_nowait(trial)

    def _again(self, trial: Key) -> None:
        if self._named.pop(trial):
            self.give(trial)


def _is_over(manifest: Json) -> bool:
    """Whether a process job says Complete or Failed: all of its processes have ended."""
    conditions = (manifest.get("status") or {}).get("conditions") or []
    return any(
        c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions
    )
