# SPDX-License-Identifier: Apache-2.0
"""What tests of process workloads share: Jobs that do something, and the proof that nothing stays.

`Bench` owns a folder under which a test's attempts run. Every process of such an attempt carries
that folder in its environment, and its supervisor in its command line.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith_controller.ports import JobPresent, JobState, Json, Key, TrialRun
from tunesmith_controller.workloads import process_table
from tunesmith_controller.workloads.attempt_folder import AttemptFolder
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads
from tunesmith_controller.workloads.testing import is_over, is_running, until

SECONDS = 20.0


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def job_of(*command: str, cpu: str = "10m", **container: object) -> Json:
    """A Job whose one container, "main", runs exactly `command`: dollars are kept as they are."""
    main = {
        "name": "main",
        "command": [word.replace("$", "$$") for word in command],
        "resources": {"limits": {"cpu": cpu}},
        **container,
    }
    pod = {"containers": [main], "restartPolicy": "Never"}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}


@dataclass(slots=True)
class Bench:
    """`root`, in it, is the workloads' root; the rest of `folder` is for what programs write."""

    folder: Path
    notices: list[str] = field(default_factory=list)
    waits: list[TrialRun] = field(default_factory=list)
    _names: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def workloads(
        self,
        grace: float = 5.0,
        leftover: float = 0.3,
        cpus: float = 4,
        environ: Mapping[str, str] | None = None,
    ) -> ProcessWorkloads:
        """A controller's view, as after a start."""
        settings = ProcessSettings(cpus=cpus, grace=grace, leftover=leftover, poll=0.02)
        return ProcessWorkloads(
            self.root,
            clock=WallClock(),
            settings=settings,
            environ=environ,
            notice=self.notices.append,
        )

    def run(self, spec: Json, **context: str) -> TrialRun:
        """A first attempt of a new trial."""
        name = f"trial-{next(self._names)}"
        key = Key("Trial", "default", name)
        return TrialRun(key, f"uid-{name}", 1, spec, "main", context=context)

    def shell(self, script: str, cpu: str = "10m") -> TrialRun:
        """A run of a shell script that first notes its start."""
        note = f'echo $$ >>"{self.folder}/starts-$TUNESMITH_TRIAL_UID"'
        return self.run(job_of("sh", "-c", f"{note}; {script}", cpu=cpu))

    def python(self, program: str) -> TrialRun:
        """A run of a Python program; `folder` is the bench's folder in it."""
        text = f"import os, signal, sys, time\nfolder = {str(self.folder)!r}\n{program}"
        return self.run(job_of(sys.executable, "-I", "-S", "-c", text))

    def waiting(self, cpu: str = "10m") -> TrialRun:
        """A run that ends well when `let_end` says so."""
        end = f'"{self.folder}/end-$TUNESMITH_TRIAL_UID"'
        self.waits.append(self.shell(f"while [ ! -e {end} ]; do sleep 0.02; done", cpu))
        return self.waits[-1]

    def let_end(self, run: TrialRun) -> None:
        (self.folder / f"end-{run.trial_uid}").touch()

    def starts(self, run: TrialRun) -> int:
        """How often a shell run has started."""
        notes = self.folder / f"starts-{run.trial_uid}"
        return len(notes.read_text().splitlines()) if notes.exists() else 0

    def attempt(self, run: TrialRun) -> AttemptFolder:
        return AttemptFolder(self.root / run.trial_uid / str(run.attempt))


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Whatever happened on it, nothing of it may run afterwards."""
    bench = Bench(folder)
    yield bench
    for run in bench.waits:
        bench.let_end(run)
    gone = eventually(lambda: not processes_of(folder), seconds=3)
    assert gone, f"left behind, and now killed: {end_all(folder)}"


def processes_of(folder: Path) -> dict[int, str]:
    """Running processes whose environment or command line names the folder, with start times."""
    found = {}
    for row in process_table.list_processes():
        if row.runs and row.pid != os.getpid() and _names(row.pid, str(folder).encode()):
            found[row.pid] = row.start
    return found


def _names(pid: int, folder: bytes) -> bool:
    try:
        place = Path(f"/proc/{pid}")
        return folder in (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
    except OSError:
        return False


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `check` comes true in time; for what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def end_all(folder: Path) -> list[int]:
    """Kills what still runs under a folder; its pids, so that a test can fail about them."""
    left = processes_of(folder)
    for pid, start in left.items():
        process_table.signal_process(pid, start, signal.SIGKILL)
    return sorted(left)


# ---- steps of a scenario ------------------------------------------------------------------------


async def ended(workloads: ProcessWorkloads, run: TrialRun) -> JobState:
    await workloads.ensure(run)
    return await until(workloads, run, is_over, SECONDS)


async def running(workloads: ProcessWorkloads, run: TrialRun) -> JobPresent:
    await workloads.ensure(run)
    state = await until(workloads, run, is_running, SECONDS)
    assert isinstance(state, JobPresent)
    return state


async def until_file(path: Path) -> str:
    """What a program wrote, once it has."""
    async with asyncio.timeout(SECONDS):
        while not path.exists() or not path.read_text():
            await asyncio.sleep(0.01)
    return path.read_text()


def end_of(state: JobState) -> dict[str, Any]:
    assert isinstance(state, JobPresent), state
    [condition] = state.manifest["status"]["conditions"]
    assert isinstance(condition, dict)
    return condition


def is_gone(pid: int) -> bool:
    row = process_table.read_process(pid)
    return row is None or not row.runs


def supervisor_of(bench: Bench, run: TrialRun) -> int:
    started = bench.attempt(run).started()
    assert started is not None
    return started.supervisor.pid


def pid_of(bench: Bench, name: str) -> int:
    return int((bench.folder / name).read_text())


# ---- programs -----------------------------------------------------------------------------------

# Prepended to a program: children that do not go by themselves.
STUBBORN = textwrap.dedent(
    """
    # For a program that knows nothing but its argument: where to put its pid.
    NOTE = (
        "import os, sys, time; path = sys.argv[1]; open(path + '~', 'w').write(str(os.getpid()));"
        "os.rename(path + '~', path); time.sleep(600)"
    )

    def ignore():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def wait_for(name):
        while not os.path.exists(folder + "/" + name):
            time.sleep(0.01)

    def stubborn(name, first=lambda: None):
        if os.fork() == 0:
            first()
            ignore()
            with open(folder + "/." + name, "w") as file:
                file.write(str(os.getpid()))
            os.rename(folder + "/." + name, folder + "/" + name)
            time.sleep(600)
        wait_for(name)
    """
)
