# SPDX-License-Identifier: Apache-2.0
"""`ProcessWorkloads`: attempts as local processes, for a machine without Kubernetes.

The program that assembles an embedded controller makes one over its state directory. A small
supervisor per attempt (`supervisor.py`) runs the program and outlives the controller; everything
known of an attempt is in its folder (`attempt_folder.py`), so a new controller over the same root
carries on where the last one was killed. This class remembers only what can be read again: which
attempts are unfinished, who waits for CPUs, which supervisors it has started.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith_controller.ports import (
    Clock,
    Invalid,
    JobAbsent,
    JobLost,
    JobPresent,
    JobState,
    JobWaiting,
    Key,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.workloads import environment, supervisor
from tunesmith_controller.workloads.attempt_folder import AttemptFolder, Ending, Exit, Launch
from tunesmith_controller.workloads.job_manifest import JobEnd, exit_code_message, job
from tunesmith_controller.workloads.job_spec import Plan, Surroundings, plan
from tunesmith_controller.workloads.slots import CpuSlots, cpus_text

__all__ = ["ProcessSettings", "ProcessWorkloads"]

AttemptId = tuple[str, int]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REMOVING = ".removing-"
_LIVENESS_POLLS = 5  # a supervisor's life is checked at every fifth look at its exit record
_MAX_RESTART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Times in seconds.

    cpus: how many CPUs trials may take together; None for those this process may use.
    grace: between SIGTERM and SIGKILL, unless the pod says terminationGracePeriodSeconds.
    leftover: the same for what a program leaves running when it has ended by itself.
    poll: between two looks at the folders of unfinished attempts, while `changed` is iterated.
    """

    cpus: float | None = None
    grace: float = 30.0
    leftover: float = 3.0
    poll: float = 0.2


@dataclass(slots=True)
class _Unfinished:
    """An attempt that is accepted and not over, as this controller sees it."""

    trial: Key
    folder: AttemptFolder
    started: bool = False
    supervisor: subprocess.Popen[bytes] | None = None
    tries: int = 0
    next_try: float = 0.0
    trouble: str = ""


@dataclass(slots=True)
class _Listeners:
    """Who iterates `changed`, and what each has not been told yet."""

    pending: list[dict[Key, None]] = field(default_factory=list)

    def announce(self, trial: Key) -> None:
        for keys in self.pending:
            keys[trial] = None


class ProcessWorkloads:
    """The `Workloads` port over local processes. For one event loop; two of these over one root
    are safe (an attempt still starts once), but each hands out all CPUs."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        settings: ProcessSettings | None = None,
        environ: Mapping[str, str] | None = None,
        notice: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Does no I/O; the root is made, and its attempts are adopted, at the first call.

        environ: the controller's environment, of which trials get a small part. notice: is told
        once what process mode does differently (images, clamped CPUs); never raises.
        """
        self._root = Path(os.path.realpath(root))
        self._clock = clock
        self._settings = settings or ProcessSettings()
        self._environ = dict(os.environ if environ is None else environ)
        self._notice = notice
        self._noticed: set[str] = set()
        cpus = self._settings.cpus or _usable_cpus()
        self._slots: CpuSlots[AttemptId] = CpuSlots(round(cpus * 1000))
        self._unfinished: dict[AttemptId, _Unfinished] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._listeners = _Listeners()
        self._adoption = asyncio.Lock()
        self._adopted = False
        self._order = 0

    # ---- the port ----

    async def ensure(self, run: TrialRun) -> JobState:
        with _disk(run):
            await self._adopt_all()
            folder = self._folder(run.trial_uid, run.attempt)
            if not (folder.is_accepted or folder.is_stopped or folder.is_over):
                self._accept(run, folder)
            self._track(folder)
            self._start_admitted()
        return await self.observe(run)

    async def observe(self, run: TrialRun) -> JobState:
        with _disk(run):
            await self._adopt_all()
            folder = self._folder(run.trial_uid, run.attempt)
            ended = folder.exit() or await self._settled(folder)
            if ended is not None:
                self._forget(run.trial_uid, run.attempt)
                return _ended(run, ended)
            started = folder.started()
            if started is not None:
                return job(run, started.at)
            return self._unstarted(run, folder)

    async def stop(self, run: TrialRun) -> None:
        with _disk(run):
            await self._adopt_all()
            folder = self._folder(run.trial_uid, run.attempt)
            if folder.is_over:
                return
            folder.request_stop()
            started = folder.started()
            # It would see the file by itself, a little later.
            if started is None or not started.supervisor.send(signal.SIGTERM):
                await self._settled(folder)
            self._notify_if_over(folder)

    async def release(self, run: TrialRun) -> None:
        """Output stays readable until `remove`."""
        with _disk(run):
            if self._folder(run.trial_uid, run.attempt).is_over:
                self._forget(run.trial_uid, run.attempt)

    async def changed(self) -> AsyncIterator[Key]:
        pending: dict[Key, None] = {}
        self._listeners.pending.append(pending)
        try:
            looks = 0
            while True:
                looks += 1
                await self._look(thoroughly=looks % _LIVENESS_POLLS == 0)
                while pending:
                    yield pending.pop(next(iter(pending)), None) or next(iter(()))
                await asyncio.sleep(self._settings.poll)
        finally:
            self._listeners.pending.remove(pending)
