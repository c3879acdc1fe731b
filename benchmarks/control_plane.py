# SPDX-License-Identifier: Apache-2.0
"""The controller's own cost: trials finished per second, CPU per trial, memory.

    .venv/bin/python benchmarks/control_plane.py [--trials 10000] [--parallel 16] [--json]

Everything is real (SQLite objects and rows, the suggestion service as a child, the manager) but
the work: a job succeeds the moment it is started and has printed one row. So what is measured is
the control plane. Figures "at N" are of the trials from 0.9 N to N of one run; CPU is this
process's (the service's is told apart), memory its resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.metrics import Row
from tunesmith_api.observations import ObservationLog, Report, SourceKey, SourceNotes
from tunesmith_controller.admission.local import admit
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost
from tunesmith_controller.local_control import settle_memory
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import JobAbsent, JobPresent, JobState, Key, Ports, TrialRun
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_earlystopping.core import LocalRules
from tunesmith_observation.database import sqlite_url
from tunesmith_observation.sql import SqlObservationLog

DONE = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}


class NoWork:
    """Workloads whose jobs have printed one row and succeeded as soon as they are started."""

    def __init__(self, log: ObservationLog) -> None:
        self._log = log
        self._started: set[tuple[str, int]] = set()

    async def ensure(self, run: TrialRun) -> JobState:
        key = SourceKey(run.trial_uid, run.attempt, "stdout")
        row = Row(0, run.metrics[0], "0.5")
        await self._log.append(Report(key, [row], offset=8, ended=True, notes=SourceNotes(lines=1)))
        self._started.add((run.trial_uid, run.attempt))
        return await self.observe(run)

    async def observe(self, run: TrialRun) -> JobState:
        if (run.trial_uid, run.attempt) not in self._started:
            return JobAbsent()
        return JobPresent(f"{run.trial_uid}/{run.attempt}", DONE)

    async def stop(self, run: TrialRun) -> None:
        """Nothing runs."""

    async def release(self, run: TrialRun) -> None:
        self._started.discard((run.trial_uid, run.attempt))

    async def remove(self, trial_uid: str) -> None:
        """Nothing is kept."""

    async def changed(self) -> AsyncIterator[Key]:
        await asyncio.Event().wait()
        yield Key("Trial", "", "")


@dataclass
class Marks:
    """What the clocks said when so many trials had ended."""

    at: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def take(self, ended: int) -> None:
        self.at[ended] = (time.perf_counter(), time.process_time(), resident_mib())

    def near(self, ended: int) -> tuple[float, float, float]:
        """The marks taken at so many or the first after."""
        return self.at[min(n for n in self.at if n >= ended)]


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def experiment(trials: int, parallel: int, algorithm: str) -> dict[str, Any]:
    container = {"name": "main", "image": "none", "command": ["x", "--lr=${trialParameters.lr}"]}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "load", "namespace": "default"},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": algorithm},
            "maxTrialCount": trials,
            "parallelTrialCount": parallel,
            "parameters": [
                {
                    "name": "lr",
                    "parameterType": "double",
                    "feasibleSpace": {"min": "0.0001", "max": "0.1"},
                }
            ],
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": "lr", "reference": "lr"}],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"template": {"spec": {"containers": [container]}}},
                },
            },
        },
    }


async def measure(home: Path, trials: int, parallel: int, algorithm: str) -> Marks:
    settle_memory()
    store = SqliteStore(home / "objects.db", SystemClock(), SystemRng())
    log = await asyncio.to_thread(SqlObservationLog.open, sqlite_url(home / "observations.db"))
    host = ProcessAlgorithmHost(home / "services", home / "services.log")
    client = GrpcSuggestionClient()
    ports = Ports(
        store=store,
        workloads=NoWork(log),
        host=host,
        suggestions=client,
        observations=log,
        clock=SystemClock(),
        rng=SystemRng(),
        events=RememberedEvents(),
        stopping=LocalRules(),
    )
    await store.create(admit(experiment(trials, parallel, algorithm)))
    manager = asyncio.ensure_future(Manager(ports).run())
    try:
        return await follow(store, trials)
    finally:
        manager.cancel()
        await asyncio.gather(manager, return_exceptions=True)
        await client.close()
        await host.aclose()
        await log.aclose()
        await asyncio.to_thread(store.close)


async def follow(store: SqliteStore, trials: int) -> Marks:
    marks, ended = Marks(), -1
    async for event in store.watch("Experiment"):
        status = event.object.get("status") or {}
        now = sum(
            status.get(f"trials{state}", 0) for state in ("Succeeded", "Failed", "Killed")
        ) + status.get("trialMetricsUnavailable", 0)
        if now > ended:
            ended = now
            marks.take(ended)
        if (status.get("conditions") or [{}])[-1].get("type") in ("Succeeded", "Failed"):
            break
    if ended != trials:
        raise SystemExit(f"{ended} of {trials} trials ended; see the experiment's conditions")
    return marks


def figures(marks: Marks, trials: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in (100, 1_000, 10_000, 100_000):
        if size > trials:
            break
        begin, end = marks.near(int(size * 0.9)), marks.near(size)
        count = size - int(size * 0.9)
        found[str(size)] = {
            "trials_per_s": round(count / (end[0] - begin[0]), 1),
            "cpu_ms_per_trial": round(1000 * (end[1] - begin[1]) / count, 2),
            "rss_mib": round(end[2], 1),
        }
    first, last = marks.near(0), marks.near(trials)
    sizes = list(found)
    costs = [found[size]["cpu_ms_per_trial"] for size in sizes]
    service = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "trials": trials,
        "at": found,
        "cost_ratio_last_to_first": round(costs[-1] / costs[0], 2) if costs else None,
        "trials_per_s": round(trials / (last[0] - first[0]), 1),
        "service_cpu_ms_per_trial": round(1000 * (service.ru_utime + service.ru_stime) / trials, 2),
        "rss_mib": round(last[2], 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--parallel", type=int, default=16)
    options.add_argument("--algorithm", default="random")
    options.add_argument("--json", action="store_true", help="for machines")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunesmith-load-") as folder:
        marks = asyncio.run(measure(Path(folder), args.trials, args.parallel, args.algorithm))
    result = figures(marks, args.trials)
    if args.json:
        print(json.dumps(result))
        return
    for size, found in result["at"].items():
        print(
            f"at {size:>6} trials: {found['trials_per_s']:7.1f} trials/s, "
            f"{found['cpu_ms_per_trial']:6.2f} ms of CPU a trial, {found['rss_mib']:6.1f} MiB"
        )
    print(f"cost at the end / at the beginning: {result['cost_ratio_last_to_first']}")
    print(f"all {result['trials']}: {result['trials_per_s']} trials/s, {result['rss_mib']} MiB")


if __name__ == "__main__":
    main()
