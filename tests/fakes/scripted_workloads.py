# SPDX-License-Identifier: Apache-2.0
"""`ScriptedWorkloads`: the `Workloads` port in memory, for simulations and reconciler tests.

No threads, processes or real time: a run ends when the test says so, or when the event loop's time
(virtual or not) has passed the duration that a script gives it. The object stands for the world
outside the controller, so a test keeps it when it lets a controller crash.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tunesmith_controller.ports import (
    Invalid,
    JobAbsent,
    JobLost,
    JobState,
    Key,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.workloads.job_manifest import JobEnd, exit_code_message, job

AttemptId = tuple[str, int]
Script = Callable[[TrialRun], float | tuple[float, int] | None]
Refusal = Callable[[TrialRun], str | None]

_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Attempt:
    run: TrialRun
    started: datetime | None
    end: JobEnd | None = None
    lost: str = ""

    @property
    def is_over(self) -> bool:
        return self.end is not None or bool(self.lost)


class ScriptedWorkloads:
    """`starts` lists every start in order: an attempt in it twice has run twice. That cannot come
    from repeated `ensure`, which is idempotent here as everywhere, but from ensuring an attempt
    whose job has vanished or was removed."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        refusal: Refusal = lambda run: None,
        stop_seconds: float = 0.0,
    ) -> None:
        """script: after how many seconds a run ends, well or with an exit code; None for not by
        itself. refusal: why a run can never start, None when it can. stop_seconds: from `stop` to
        the end of what runs."""
        self.starts: list[AttemptId] = []
        self.stops: list[AttemptId] = []
        self.released: list[AttemptId] = []
        self.removed: list[str] = []
        self._script: Script = script or (lambda run: None)
        self._refusal = refusal
        self._stop_seconds = stop_seconds
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._listeners: list[_Listener] = []

    # ---- what a test says ----

    def finish(self, trial_uid: str, attempt: int, exit_code: int = 0) -> None:
        """Ends a run; nothing when it has ended. KeyError: it never started."""
        reason = "CommandFailed" if exit_code else "CompletionsReached"
        self._end(trial_uid, attempt, exit_code, reason, exit_code_message(exit_code))

    def lose(self, trial_uid: str, attempt: int, reason: str = "its machine is gone") -> None:
        """The end of a run can no longer be known; nothing when it has ended."""
        self._change((trial_uid, attempt), lambda known: replace(known, lost=reason))

    def vanish(self, trial_uid: str, attempt: int) -> None:
        """The job is gone without a trace, as by a TTL or an operator's hand: ensuring the attempt
        again would run it again."""
        vanished = self._attempts.pop((trial_uid, attempt))
        self._announce(vanished.run.trial)

    def hint(self, run: TrialRun) -> None:
        """Something may have changed about a trial: new rows, for instance."""
        self._announce(run.trial)

    def active(self) -> list[AttemptId]:
        """The attempts that run, in the order of their starts."""
        return [attempt for attempt, known in self._attempts.items() if not known.is_over]

    # ---- the port ----

    async def ensure(self, run: TrialRun) -> JobState:
        attempt = (run.trial_uid, run.attempt)
        if attempt not in self._attempts:
            refused = self._refusal(run)
            if refused is not None:
                raise Invalid(refused)
            self._start(copy.deepcopy(run))
        return await self.observe(run)

    async def observe(self, run: TrialRun) -> JobState:
        known = self._attempts.get((run.trial_uid, run.attempt))
        if known is None:
            return JobAbsent()
        if known.lost:
            return JobLost(known.lost)
        return job(known.run, known.started, known.end)

    async def stop(self, run: TrialRun) -> None:
        attempt = (run.trial_uid, run.attempt)
        self.stops.append(attempt)
        if attempt not in self._attempts:
            end = JobEnd(False, _now(), "Stopped", "stopped before it started")
            self._attempts[attempt] = _Attempt(copy.deepcopy(run), None, end)
            self._announce(run.trial)
        elif self._stop_seconds:
            asyncio.get_running_loop().call_later(self._stop_seconds, self._stopped, *attempt)
        else:
            self._stopped(*attempt)

    async def release(self, run: TrialRun) -> None:
        self.released.append((run.trial_uid, run.attempt))

    async def sweep(self, trial: Key, trial_uid: str) -> None:
        for attempt in self._attempts:
            if attempt[0] == trial_uid and attempt not in self.released:
                self.released.append(attempt)

    async def remove(self, trial_uid: str) -> None:
        """A removed attempt is as unknown as one that never was."""
        mine = [attempt for attempt in self._attempts if attempt[0] == trial_uid]
        if any(not self._attempts[attempt].is_over for attempt in mine):
            raise Unavailable(f"trial {trial_uid} has not ended yet")
        for attempt in mine:
            del self._attempts[attempt]
        self.removed.append(trial_uid)

    async def changed(self) -> AsyncIterator[Key]:
        listener = _Listener()
        self._listeners.append(listener)
        try:
            while True:
                yield await listener.next()
        finally:
            self._listeners.remove(listener)

    # ---- steps ----

    def _start(self, run: TrialRun) -> None:
        attempt = (run.trial_uid, run.attempt)
        self.starts.append(attempt)
        self._attempts[attempt] = _Attempt(run, _now())
        self._announce(run.trial)
        scripted = self._script(run)
        if scripted is not None:
            seconds, code = scripted if isinstance(scripted, tuple) else (scripted, 0)
            asyncio.get_running_loop().call_later(seconds, self._run_out, *attempt, code)

    def _run_out(self, trial_uid: str, attempt: int, exit_code: int) -> None:
        if (trial_uid, attempt) in self._attempts:
            self.finish(trial_uid, attempt, exit_code)

    def _stopped(self, trial_uid: str, attempt: int) -> None:
        if (trial_uid, attempt) in self._attempts:
            self._end(trial_uid, attempt, 143, "Stopped", "stopped on request")

    def _end(self, trial_uid: str, attempt: int, code: int, reason: str, message: str) -> None:
        end = JobEnd(code == 0, _now(), reason, message, code)
        self._change((trial_uid, attempt), lambda known: replace(known, end=end))

    def _change(self, attempt: AttemptId, change: Callable[[_Attempt], _Attempt]) -> None:
        known = self._attempts[attempt]
        if not known.is_over:
            self._attempts[attempt] = change(known)
            self._announce(known.run.trial)

    def _announce(self, trial: Key) -> None:
        for listener in self._listeners:
            listener.tell(trial)


class _Listener:
    """One iteration of `changed`: keys not yet told, each once."""

    def __init__(self) -> None:
        self._pending: dict[Key, None] = {}
        self._told = asyncio.Event()

    def tell(self, trial: Key) -> None:
        self._pending[trial] = None
        self._told.set()

    async def next(self) -> Key:
        while not self._pending:
            self._told.clear()
            await self._told.wait()
        key = next(iter(self._pending))
        del self._pending[key]
        return key


def _now() -> datetime:
    """The event loop's time as a date; the epoch where no loop runs."""
    try:
        seconds = asyncio.get_running_loop().time()
    except RuntimeError:
        seconds = 0.0
    return _EPOCH + timedelta(seconds=seconds)
