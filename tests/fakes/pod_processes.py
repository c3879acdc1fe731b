# SPDX-License-Identifier: Apache-2.0
"""A pod's processes without a cluster: sidecar and launcher, beside a real observation service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher_program import launcher

from tunesmith_api.metrics import counted
from tunesmith_observation.server import ServerOptions, start_server
from tunesmith_observation.sql import SqlObservationLog

PLAN = {
    "trialName": "t1",
    "namespace": "ns",
    "trialUid": "uid-1",
    "attempt": 1,
    "primaryContainer": "main",
    "metrics": ["loss"],
}
Process = asyncio.subprocess.Process


@dataclass
class Pod:
    """What a pod has: a shared volume, an identity, and the logs of two containers."""

    folder: Path
    address: str
    uid: str = "0123456789"
    plan: dict[str, Any] = field(default_factory=lambda: dict(PLAN))
    arguments: tuple[str, ...] = ()
    sidecars: list[Process] = field(default_factory=list)
    programs: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("shared", "identity"):
            (self.folder / name).mkdir(parents=True)

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    @property
    def log(self) -> bytes:
        """Of the newest sidecar."""
        return (self.folder / f"sidecar-{len(self.sidecars)}.log").read_bytes()

    async def start_sidecar(self) -> Process:
        """Returns when the launcher is in place."""
        environment = {
            **os.environ,
            "TUNESMITH_COLLECTION": json.dumps(self.plan),
            "TUNESMITH_POD_UID": self.uid,
        }
        places = {
            "--observation": self.address,
            "--shared": str(self.shared),
            "--identity": str(self.folder / "identity"),
            "--launcher": str(launcher()),
            "--termination-log": str(self.folder / "termination-log"),
        }
        with (self.folder / f"sidecar-{len(self.sidecars) + 1}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tunesmith_metrics_collector.sidecar"),
                *(part for pair in places.items() for part in pair),
                *self.arguments,
                env=environment,
                stdout=log,
            )
        self.sidecars.append(process)
        await until((self.shared / "launcher").exists, "the launcher is there")
        await until(lambda: _hears(process.pid), "it does not miss its end")
        return process

    async def train(self, *argv: str) -> Process:
        environment = {**os.environ, "TUNESMITH_METRICS_FILE": f"{self.shared}/metrics.jsonl"}
        process = await asyncio.create_subprocess_exec(
            *(str(self.shared / "launcher"), "-dir", str(self.shared), "-grace", "1s"),
            *("--", *argv),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        self.programs.append(process)
        return process

    async def end(self) -> int:
        """As kubelet does it once the training container has ended."""
        self.sidecars[-1].send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.sidecars[-1].wait(), 60)

    async def run(self, *argv: str) -> int:
        """A pod from its start to its end; returns the exit code of the training container."""
        await self.start_sidecar()
        code = await (await self.train(*argv)).wait()
        assert await self.end() == 0
        return code

    async def close(self) -> None:
        for process in [*self.programs, *self.sidecars]:
            if process.returncode is None:
                process.kill() if process in self.sidecars else process.terminate()
            await process.wait()


def _hears(pid: int) -> bool:
    """Whether SIGTERM is blocked or handled; else a container's first process never hears of it."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return bool((int(status["SigBlk"], 16) | int(status["SigCgt"], 16)) & 1 << signal.SIGTERM - 1)


class Service:
    """The observation service, which can be away."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/s/o.sock"
        self.log = SqlObservationLog.open(f"sqlite:///{folder}/o.db")
        self._server: Any = None

    async def start(self) -> None:
        self._server, _ = await start_server(ServerOptions(self.address, ""), self.log)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
        self._server = None

    async def values(self, metric: str = "loss") -> list[str]:
        rows = await self.log.rows("uid-1", 1, metric=metric)
        return [row.value for row in counted(rows)]

    async def sources(self) -> dict[str, bool]:
        """Whether each has ended; parts by the name of the source."""
        found = await self.log.sources("uid-1", 1)
        return {name.partition("@")[0]: state.ended for name, state in found.items()}


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Bench:
    folder: Path
    service: Service
    pods: list[Pod] = field(default_factory=list)

    def pod(self, *arguments: str, **plan: Any) -> Pod:
        made = Pod(self.folder / f"pod-{len(self.pods)}", self.service.address)
        made.plan.update(plan)
        made.arguments = arguments
        self.pods.append(made)
        return made


def on_bench(folder: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(folder, Service(folder))
        await bench.service.start()
        try:
            await scenario(bench)
        finally:
            for pod in bench.pods:
                await pod.close()
            await bench.service.stop()
            await bench.service.log.aclose()

    asyncio.run(run())
