# SPDX-License-Identifier: Apache-2.0
"""One machine's control plane: what is kept below one state directory, and who may control it.

Any number of processes may open it to read and write objects; the one that holds the lease runs
the manager, with the suggestion service as its child and a supervised process per trial.

    HOME/objects.db        Experiments, Suggestions, Trials
    HOME/observations.db   metric rows
    HOME/trials/           a folder per trial: output, exit record
    HOME/services/         the suggestion service's socket and log
    HOME/controller.lock   the lease
    HOME/api.json          where the API is served, and its token, while it is
    HOME/kubeconfig        the same for kubectl and Katib's client
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.errors import Unavailable
from tunesmith_controller.admission.stored import admitted
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.manager.lease import FileLease
from tunesmith_controller.ports import Json
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.workloads.attempt_folder import AttemptFolder


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """cpus: what trials may use together, None for all of this machine's. runtime: what runs them,
    "process", "podman" or "docker". api_port: where the controller also serves the API on
    loopback, 0 for any free port, None for no API. db_manager: where Katib's DBManager is served
    for clients that report by trial name, a loopback HOST:PORT or unix:/PATH, empty for nowhere."""

    cpus: float | None = None
    runtime: str = "process"
    api_port: int | None = None
    db_manager: str = ""


class LocalPlane:
    """The durable parts of one state directory, and the controller over them."""

    def __init__(self, home: Path, settings: LocalSettings, store: SqliteStore) -> None:
        self.home = home
        self.store = store
        self.lease = FileLease(home / "controller.lock")
        self.settings = settings

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path, settings: LocalSettings | None = None
    ) -> AsyncIterator[LocalPlane]:
        """Opens, creating the directory (mode 0700) and the objects on first use. Raises
        Unavailable, OSError."""
        _private(home)
        store = SqliteStore(home / "objects.db", SystemClock(), SystemRng())
        try:
            yield cls(home, settings or LocalSettings(), store)
        finally:
            await asyncio.to_thread(store.close)

    async def submit(self, experiment: Json) -> Json:
        """Admits and stores an Experiment. Raises Refused, AlreadyExists."""
        return await self.store.create(await admitted(self.store, experiment))

    def output_path(self, trial_uid: str, attempt: int) -> Path:
        """What an attempt printed; the file is there once it has started."""
        return self._attempt(trial_uid, attempt).output

    def metrics_path(self, trial_uid: str, attempt: int) -> Path:
        """What an attempt reported by `tunesmith.report`; there once it has."""
        return self._attempt(trial_uid, attempt).metrics

    def _attempt(self, trial_uid: str, attempt: int) -> AttemptFolder:
        return AttemptFolder(self.home / "trials" / trial_uid / str(attempt))

    async def control(self, *, notice: Callable[[str], None] = lambda sentence: None) -> None:
        """Waits for the lease, then runs the manager until cancelled.

        Cancelled, it closes what it opened; trials run on under their supervisors, and whoever
        takes the lease next adopts them.
        """
        await self.lease.acquire()
        try:
            # Loaded here: commands that only look at objects start several times faster.
            from tunesmith_controller import local_control  # noqa: PLC0415

            await local_control.control(self, self.settings, notice=notice)
        finally:
            self.lease.release()


def _private(folder: Path) -> None:
    """A directory for this user only. Raises Unavailable when it belongs to somebody else, or has
    a name that cannot be told to other programs."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise Unavailable(f"the name of {os.fsencode(folder)!r} is no valid UTF-8") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise Unavailable(f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
