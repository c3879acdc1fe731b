# SPDX-License-Identifier: Apache-2.0
"""The controller of one machine: real processes, a suggestion service as child, SQLite.

Called by `LocalPlane.control` once it holds the lease, and imported only then: commands that just
look at objects need none of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.events import SpokenEvents
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import ObjectStore, Ports, StopDecision, StopProblem
from tunesmith_controller.workloads.collected import CollectedWorkloads
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads
from tunesmith_metrics_collector.fleet import CollectorFleet
from tunesmith_observation.database import sqlite_url
from tunesmith_observation.sql import SqlObservationLog


async def control(
    home: Path, store: ObjectStore, *, cpus: float | None, notice: Callable[[str], None]
) -> None:
    """Runs the manager over `home` until cancelled, then closes what it opened.

    Trials run on under their supervisors. Raises Unavailable.
    """
    clock = SystemClock()
    log = await asyncio.to_thread(SqlObservationLog.open, sqlite_url(home / "observations.db"))
    services = home / "services"
    host = ProcessAlgorithmHost(services, services / "suggestion.log")
    client = GrpcSuggestionClient()
    fleet = CollectorFleet(log)
    settings = replace(ProcessSettings(), cpus=cpus)
    processes = ProcessWorkloads(home / "trials", clock=clock, settings=settings, notice=notice)
    ports = Ports(
        store=store,
        workloads=CollectedWorkloads(processes, fleet),
        host=host,
        suggestions=client,
        observations=log,
        clock=clock,
        rng=SystemRng(),
        events=SpokenEvents(notice),
        stopping=_NoRules(),
    )
    try:
        await Manager(ports).run()
    finally:
        await fleet.aclose()
        await client.close()
        await host.aclose()
        await log.aclose()


class _NoRules:  # replaced by tunesmith_earlystopping.core.LocalRules in the next slice
    def validate(self, problem: StopProblem) -> Sequence[str]:
        return [f"there is no early stopping rule {problem.rule!r}"]

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        return ()

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        return StopDecision(False)
