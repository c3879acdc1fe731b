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
import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith_controller.ports import (
    Clock,
    Invalid,
    JobAbsent,
    JobState,
    JobWaiting,
    Key,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.workloads import checkpoints, containers, environment, supervisor
from tunesmith_controller.workloads.attempt_folder import (
    TRIAL_UID,
    AttemptFolder,
    AttemptId,
    Exit,
    Launch,
    attempts,
    delete,
    find_unfinished,
)
from tunesmith_controller.workloads.container_limits import Abilities, abilities
from tunesmith_controller.workloads.endings import ended_state, last_words
from tunesmith_controller.workloads.job_manifest import Failures, job
from tunesmith_controller.workloads.job_spec import (
    Plan,
    Surroundings,
    client_environment,
    container_client,
    plan,
)
from tunesmith_controller.workloads.slots import CpuSlots, cpus_text

__all__ = ["ProcessSettings", "ProcessWorkloads"]

_LOG = logging.getLogger(__name__)
_LIVENESS_LOOKS = 5  # every fifth look also checks that the supervisors live
_RESTART_SECONDS = 0.1  # doubled at every try, up to 256 times


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Times in seconds.

    cpus: how many CPUs trials may take together; None for those this process may use.
    grace: between SIGTERM and SIGKILL, unless the pod says terminationGracePeriodSeconds.
    leftover: the same for what a program leaves running when it has ended by itself.
    poll: between two looks at the folders of unfinished attempts, while `changed` is iterated.
    runtime: what runs a trial: "process", or "podman" or "docker" for its image.
    """

    cpus: float | None = None
    grace: float = 30.0
    leftover: float = 3.0
    poll: float = 0.2
    runtime: str = "process"


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

    def may_start(self, now: float) -> bool:
        """Not while a supervisor is on its way, and after a failure not at once."""
        if self.started or now < self.next_try:
            return False
        if self.supervisor is not None and self.supervisor.poll() is None:
            return False
        return self.folder.may_start


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
        self._listeners: list[dict[Key, None]] = []
        self._adoption = asyncio.Lock()
        self._adopted = False
        self._order = 0
        self._able: Abilities | None = None

    # ---- the port ----

    async def ensure(self, run: TrialRun) -> JobState:
        with _disk(run):
            await self._adopt_all()
            folder = self._folder(run.trial_uid, run.attempt)
            if not (folder.is_accepted or folder.is_stopped or folder.is_over):
                await self._accept(run, folder)
        return await self.observe(run)

    async def observe(self, run: TrialRun) -> JobState:
        with _disk(run):
            await self._adopt_all()
            self._reap()
            folder = self._folder(run.trial_uid, run.attempt)
            ended = await self._end_of(folder)
            if ended is not None:
                self._forget((run.trial_uid, run.attempt))
                return ended_state(run, ended, last_words(folder, ended))
            self._track((run.trial_uid, run.attempt), folder)
            self._start_admitted()
            started = folder.started()
            if started is None:
                return self._unstarted(run, folder)
            return job(run, started.at, failures=Failures(started.failures, started.last_code))

    async def stop(self, run: TrialRun) -> None:
        with _disk(run):
            await self._adopt_all()
            folder = self._folder(run.trial_uid, run.attempt)
            if folder.is_over:
                return
            folder.request_stop()
            started = folder.started()
            # The supervisor would see the file by itself, a little later.
            if started is None or not started.supervisor.send(signal.SIGTERM):
                await self._end_of(folder)
            self._look_at((run.trial_uid, run.attempt), folder)

    async def release(self, run: TrialRun) -> None:
        """Output stays readable until `remove`."""
        with _disk(run):
            if self._folder(run.trial_uid, run.attempt).is_over:
                self._forget((run.trial_uid, run.attempt))

    async def sweep(self, trial: Key, trial_uid: str) -> None:
        """Nothing: a release is on record only once it is done here."""

    async def remove(self, trial_uid: str) -> None:
        """Deletes everything of a trial; nothing when there is nothing.

        Unavailable: an attempt is not over (stop it first), or the disk refuses.
        """
        with _disk(trial_uid):
            await self._adopt_all()
            trial = self._folder(trial_uid, 0).path.parent
            for attempt, folder in attempts(trial):
                if folder.is_accepted and await self._end_of(folder) is None:
                    raise Unavailable(f"attempt {attempt} of trial {trial_uid} has not ended yet")
                self._forget((trial_uid, attempt))
            await asyncio.to_thread(delete, trial)

    async def changed(self) -> AsyncIterator[Key]:
        """Also what notices, between calls, that attempts ended and others may start."""
        pending: dict[Key, None] = {}
        self._listeners.append(pending)
        try:
            for look in itertools.count(1):
                await self._look(thoroughly=look % _LIVENESS_LOOKS == 0)
                while pending:
                    key = next(iter(pending))
                    del pending[key]
                    yield key
                await asyncio.sleep(self._settings.poll)
        finally:
            self._listeners.remove(pending)

    # ---- beyond the port ----

    def output_path(self, trial_uid: str, attempt: int) -> Path:
        """What the attempt printed; the file is there once it has started."""
        return self._folder(trial_uid, attempt).output

    def metrics_target(self, run: TrialRun) -> Path:
        """Where the File collector reads what an attempt wrote to its declared path."""
        return self._folder(run.trial_uid, run.attempt).target(run.metrics_path)

    def checkpoint_path(self, trial_uid: str) -> Path:
        """The trial's own directory, there once its first attempt has been accepted."""
        return self._folder(trial_uid, 0).checkpoint

    def metrics_path(self, trial_uid: str, attempt: int) -> Path:
        """What the attempt is told to report to; the file is there once it has reported."""
        return self._folder(trial_uid, attempt).metrics

    # ---- accepting and starting ----

    def _folder(self, trial_uid: str, attempt: int) -> AttemptFolder:
        if not TRIAL_UID.fullmatch(trial_uid) or attempt < 0:
            raise Invalid(f"{trial_uid!r} and {attempt} do not name an attempt of a trial")
        return AttemptFolder(self._root / trial_uid / str(attempt))

    async def _accept(self, run: TrialRun, folder: AttemptFolder) -> None:
        runtime = self._settings.runtime
        able = await self._abilities()
        made = plan(run, Surroundings(self._environ, folder.metrics, folder.work, runtime, able))
        self._say_differences(run, made)
        self._order += 1
        folder.create()
        if not await asyncio.to_thread(self._make_files, run, folder):
            self._say_once(
                f"trial {run.trial.name} begins without a checkpoint: its parent has left none"
            )
        if made.container:
            containers.prepare(folder)
        if made.cwd == str(folder.work):
            folder.work.mkdir(mode=0o700, exist_ok=True)
        grace = made.grace_seconds
        folder.accept(
            Launch(
                executable=made.executable,
                argv=made.argv,
                env=made.env,
                cwd=made.cwd,
                grace_seconds=self._settings.grace if grace is None else grace,
                leftover_seconds=self._settings.leftover,
                deadline_seconds=made.deadline_seconds,
                trial=run.trial,
                cpu_millis=made.cpu_millis,
                order=self._order,
                restarts=made.restarts,
                container=made.container,
            )
        )

    def _make_files(self, run: TrialRun, folder: AttemptFolder) -> bool:
        """What the program finds: its checkpoint directory, a place for its metrics files. False
        when the parent whose checkpoint it should have left none."""
        parent = self._folder(run.parent_uid, 0).checkpoint if run.parent_uid else None
        found = checkpoints.provide(folder.checkpoint, parent)
        for path in (folder.shared, folder.shared / "metrics"):
            path.mkdir(mode=0o700, exist_ok=True)
        return found

    async def _abilities(self) -> Abilities:
        """Asked once, and again after a failure: the runtime may have been started meanwhile."""
        if self._settings.runtime != "process" and self._able is None:
            client = container_client(self._settings.runtime, self._environ)
            environ = client_environment(self._environ)
            self._able = await asyncio.to_thread(abilities, client, environ)
        return self._able or Abilities()

    def _say_differences(self, run: TrialRun, made: Plan) -> None:
        if made.container:
            self._say_differences_of_containers(run)
        elif made.image:
            self._say_once(
                f"images are not pulled in process mode: the command of image {made.image} runs "
                f"with the programs of this machine"
            )
        if made.cpu_millis > self._slots.capacity:
            capacity = cpus_text(self._slots.capacity)
            self._say_once(
                f"a trial asks for {cpus_text(made.cpu_millis)} CPUs and {capacity} may be used "
                f"here: it runs with {capacity}, alone"
            )
        if made.wants_gpu and made.container:
            self._say_once("a trial asks for a GPU: containers on this machine are given none")
        elif made.wants_gpu:
            self._say_once(
                "GPU limits are not kept in process mode: every trial sees every GPU, and CPUs "
                "alone decide how many run at once"
            )

    def _say_differences_of_containers(self, run: TrialRun) -> None:
        if self._able is None or not (self._able.cpus and self._able.memory):
            self._say_once(
                f"{self._settings.runtime} cannot limit CPUs and memory for this user (no control "
                "groups): limits decide how many trials run at once, and are not imposed on them"
            )
        if run.collector == "Push":
            self._say_once(
                "katib.report_metrics does not reach this machine from a container: use "
                "tunesmith.report, or print metrics"
            )

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._noticed:
            self._noticed.add(sentence)
            self._notice(sentence)

    def _track(self, attempt: AttemptId, folder: AttemptFolder) -> None:
        if attempt in self._unfinished or not folder.is_unfinished:
            return
        launch = folder.launch()
        self._order = max(self._order, launch.order)
        self._unfinished[attempt] = _Unfinished(launch.trial, folder, folder.is_started)
        if self._unfinished[attempt].started:
            self._slots.hold(attempt, launch.cpu_millis)
        else:
            self._slots.wait(attempt, launch.cpu_millis)

    def _forget(self, attempt: AttemptId) -> None:
        over = self._unfinished.pop(attempt, None)
        if over is not None:
            self._announce(over.trial)
            self._slots.release(attempt)
            self._start_admitted()

    def _start_admitted(self) -> None:
        """Starts whoever's turn has come, and again whoever's supervisor died before its record."""
        self._slots.admit()
        now = asyncio.get_running_loop().time()
        for attempt, unfinished in self._unfinished.items():
            if self._slots.holds(attempt) and unfinished.may_start(now):
                self._start(unfinished, now)

    def _start(self, unfinished: _Unfinished, now: float) -> None:
        """Harmless when another controller does the same: the supervisors settle it by a lock."""
        folder = unfinished.folder
        if unfinished.tries:
            unfinished.trouble = f"its supervisor does not start: {folder.last_trouble()}"
        unfinished.tries += 1
        unfinished.next_try = now + _RESTART_SECONDS * 2 ** min(unfinished.tries, 8)
        try:
            unfinished.supervisor = self._spawn(folder)
        except OSError as error:  # no memory, no processes left: later there may be
            unfinished.trouble = f"its supervisor cannot be started: {error}"

    def _spawn(self, folder: AttemptFolder) -> subprocess.Popen[bytes]:
        # -I -S: nothing of the user's, and 20 ms instead of 100; utf8: whatever the locale says.
        command = [sys.executable, "-I", "-S", "-X", "utf8", supervisor.__file__]
        with folder.open_supervisor_log() as log:
            child = subprocess.Popen(
                [*command, str(folder.path / supervisor.LAUNCH)],
                env=environment.inherited(self._environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    # ---- looking ----

    async def _end_of(self, folder: AttemptFolder) -> Exit | None:
        ended = folder.exit()
        if ended is None and folder.is_orphaned():
            # Reads the whole process table: not on the loop.
            ended = await asyncio.to_thread(folder.settle, self._clock.now())
        return ended or folder.exit()

    def _unstarted(self, run: TrialRun, folder: AttemptFolder) -> JobState:
        if folder.is_stopped:
            return JobWaiting("it is being stopped before it started")
        if not folder.is_accepted:
            return JobAbsent()
        attempt = (run.trial_uid, run.attempt)
        unfinished = self._unfinished.get(attempt)
        trouble = unfinished.trouble if unfinished else ""
        return JobWaiting(self._slots.why_waiting(attempt) or trouble or "starting")

    async def _adopt_all(self) -> None:
        async with self._adoption:
            if self._adopted:
                return
            for attempt, folder in await asyncio.to_thread(find_unfinished, self._root):
                self._track(attempt, folder)
            self._adopted = True
        self._start_admitted()

    async def _look(self, *, thoroughly: bool) -> None:
        """One round over the unfinished attempts; what fails now may work in the next."""
        try:
            await self._adopt_all()
            self._reap()
            for attempt, unfinished in list(self._unfinished.items()):
                if thoroughly:
                    await self._end_of(unfinished.folder)
                self._look_at(attempt, unfinished.folder)
            self._start_admitted()
        except (OSError, ValueError) as error:
            _LOG.warning("cannot look after processes under %s: %s", self._root, error)

    def _look_at(self, attempt: AttemptId, folder: AttemptFolder) -> None:
        unfinished = self._unfinished.get(attempt)
        if folder.is_over:
            self._forget(attempt)
        elif unfinished is not None and not unfinished.started and folder.is_started:
            unfinished.started = True
            self._announce(unfinished.trial)

    def _announce(self, trial: Key) -> None:
        for pending in self._listeners:
            pending[trial] = None

    def _reap(self) -> None:
        """Supervisors are our children until we die; ended ones must not stay as zombies."""
        self._children = [child for child in self._children if child.poll() is None]


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _disk(about: TrialRun | str) -> Iterator[None]:
    """What the disk refuses may work later."""
    name = about if isinstance(about, str) else f"{about.trial.name}, attempt {about.attempt}"
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the files of trial {name} cannot be used: {error}") from error
    except ValueError as error:
        raise Unavailable(f"the files of trial {name} are damaged: {error}") from error
