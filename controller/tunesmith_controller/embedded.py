# SPDX-License-Identifier: Apache-2.0
"""One machine's control plane: the adapters below one state directory, put together.

Any number of processes may open it to read and write objects; the one that holds the lease runs
the manager, with the suggestion service as its child and a supervised process per trial.

    HOME/objects.db        Experiments, Suggestions, Trials
    HOME/observations.db   metric rows
    HOME/trials/           a folder per trial: output, exit record
    HOME/services/         the suggestion service's socket and log
    HOME/controller.lock   the lease
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith_api.errors import Unavailable
from tunesmith_controller.admission import local
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.events import LoggedEvents
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost
from tunesmith_controller.manager.lease import FileLease
from tunesmith_controller.manager.manager import Manager, ManagerSettings
from tunesmith_controller.ports import Json, ObservationLog, Ports
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.workloads.collected import CollectedWorkloads
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads
from tunesmith_metrics_collector.fleet import CollectorFleet
from tunesmith_observation.sql import SqlObservationLog

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """cpus: what trials may use together, None for all of this machine's."""

    cpus: float | None = None
    manager: ManagerSettings = field(default_factory=ManagerSettings)
    processes: ProcessSettings = field(default_factory=ProcessSettings)


class LocalPlane:
    """The durable parts of one state directory, and the controller over them."""

    def __init__(
        self,
        home: Path,
        settings: LocalSettings,
        store: SqliteStore,
        observations: ObservationLog,
    ) -> None:
        self.home = home
        self.store = store
        self.observations = observations
        self.lease = FileLease(home / "controller.lock")
        self._settings = settings
        self._clock = SystemClock()
        self._rng = SystemRng()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path, settings: LocalSettings | None = None
    ) -> AsyncIterator[LocalPlane]:
        """Opens, creating the directory (mode 0700) and databases on first use. Raises
        Unavailable, OSError."""
        _private(home)
        clock, rng = SystemClock(), SystemRng()
        store = SqliteStore(home / "objects.db", clock, rng)
        try:
            database = home / "observations.db"
            log = await asyncio.to_thread(SqlObservationLog.open, f"sqlite:///{database}")
            try:
                yield cls(home, settings or LocalSettings(), store, log)
            finally:
                await log.aclose()
        finally:
            await asyncio.to_thread(store.close)

    def admit(self, experiment: Json) -> Json:
        """Defaults and rules, without storing. Raises Refused."""
        return local.admit(experiment)

    async def submit(self, experiment: Json) -> Json:
        """Admits and stores an Experiment. Raises Refused, AlreadyExists."""
        return await self.store.create(self.admit(experiment))

    def output_path(self, trial_uid: str, attempt: int) -> Path:
        return self._processes(lambda sentence: None).output_path(trial_uid, attempt)

    def metrics_path(self, trial_uid: str, attempt: int) -> Path:
        return self._processes(lambda sentence: None).metrics_path(trial_uid, attempt)

    async def control(self, *, notice: Callable[[str], None] = lambda sentence: None) -> None:
        """Waits for the lease, then runs the manager until cancelled.

        Cancelled, it closes what it opened; trials run on under their supervisors, and whoever
        takes the lease next adopts them.
        """
        await self.lease.acquire()
        try:
            await self._control(notice)
        finally:
            self.lease.release()

    async def _control(self, notice: Callable[[str], None]) -> None:
        services = self.home / "services"
        _private(services)
        host = ProcessAlgorithmHost(services, services / "suggestion.log")
        client = GrpcSuggestionClient()
        fleet = CollectorFleet(self.observations)
        processes = self._processes(notice)
        ports = Ports(
            store=self.store,
            workloads=CollectedWorkloads(processes, fleet),
            host=host,
            suggestions=client,
            observations=self.observations,
            clock=self._clock,
            rng=self._rng,
            events=LoggedEvents(),
        )
        try:
            await Manager(ports, self._settings.manager).run()
        finally:
            await fleet.aclose()
            await client.close()
            await host.aclose()

    def _processes(self, notice: Callable[[str], None]) -> ProcessWorkloads:
        settings = self._settings.processes
        if self._settings.cpus is not None:
            settings = ProcessSettings(
                cpus=self._settings.cpus,
                grace=settings.grace,
                leftover=settings.leftover,
                poll=settings.poll,
            )
        return ProcessWorkloads(
            self.home / "trials", clock=self._clock, settings=settings, notice=notice
        )


def _private(folder: Path) -> None:
    """A directory for this user only. Raises Unavailable when it belongs to somebody else."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise Unavailable(f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
