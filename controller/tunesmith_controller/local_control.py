# SPDX-License-Identifier: Apache-2.0
"""The controller of one machine: real processes, a suggestion service as child, SQLite.

Called by `LocalPlane.control` once it holds the lease, and imported only then: commands that just
look at objects need none of this.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import replace

from tunesmith_controller.apiserver.stored_events import StoredEvents
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.events import SpokenEvents
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import Ports, Unavailable
from tunesmith_controller.trial_directory import StoredTrials
from tunesmith_controller.workloads.collected import CollectedWorkloads
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads
from tunesmith_earlystopping.core import LocalRules
from tunesmith_metrics_collector.fleet import CollectorFleet
from tunesmith_observation.database import sqlite_url
from tunesmith_observation.server import serve_db_manager
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_proto.listening import ListenError


def settle_memory() -> None:
    """Fewer collections of garbage: a controller keeps many small, acyclic objects, and looking
    through them all costs more than what is found."""
    gc.set_threshold(20_000, 20, 100)


async def control(
    plane: LocalPlane, settings: LocalSettings, *, notice: Callable[[str], None]
) -> None:
    """Runs the manager over a plane, and its API where the settings say so, until cancelled; then
    closes what it opened.

    Trials run on under their supervisors. Raises Unavailable.
    """
    settle_memory()
    home, clock = plane.home, SystemClock()
    log = await asyncio.to_thread(SqlObservationLog.open, sqlite_url(home / "observations.db"))
    services = home / "services"
    host = ProcessAlgorithmHost(services, services / "suggestion.log")
    client = GrpcSuggestionClient()
    fleet = CollectorFleet(log)
    process_settings = replace(ProcessSettings(), cpus=settings.cpus, runtime=settings.runtime)
    processes = ProcessWorkloads(
        home / "trials", clock=clock, settings=process_settings, notice=notice
    )
    events = StoredEvents(plane.store, clock, SpokenEvents(notice))
    workloads = CollectedWorkloads(processes, fleet)
    ports = Ports(
        store=plane.store,
        workloads=workloads,
        host=host,
        suggestions=client,
        observations=log,
        clock=clock,
        rng=SystemRng(),
        events=events,
        stopping=LocalRules(),
    )
    beside = _api(plane, settings)
    if settings.db_manager:
        beside.append(_db_manager(plane, settings, log, workloads))
    try:
        await _together(Manager(ports).run(), events.run(), *beside)
    finally:
        await fleet.aclose()
        await client.close()
        await host.aclose()
        await log.aclose()


def _api(plane: LocalPlane, settings: LocalSettings) -> list[Coroutine[None, None, None]]:
    if settings.api_port is None:
        return []
    # Loaded here: the HTTP stack is for planes that serve.
    from tunesmith_controller.apiserver.server import ApiOptions, serve_api  # noqa: PLC0415

    return [serve_api(plane, ApiOptions(port=settings.api_port))]


async def _db_manager(
    plane: LocalPlane,
    settings: LocalSettings,
    log: SqlObservationLog,
    workloads: CollectedWorkloads,
) -> None:
    """Raises Unavailable when the address cannot be used."""
    trials = StoredTrials(plane.store)
    try:
        await serve_db_manager(log, trials, settings.db_manager, on_rows=workloads.rows_arrived)
    except (ListenError, OSError, RuntimeError) as error:
        raise Unavailable(f"the DBManager is not served: {error}") from error


async def _together(*parts: Coroutine[None, None, None]) -> None:
    """Runs all of them until one fails or this is cancelled; none outlives it."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
