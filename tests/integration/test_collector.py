# SPDX-License-Identifier: Apache-2.0
"""The collector on a big log and an idle one, and against a real service that is killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tunesmith_api.errors import Unavailable
from tunesmith_metrics_collector.collector import Timing
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

pytestmark = pytest.mark.integration

MIB = 1 << 20


def attempt(folder: Path) -> CollectedAttempt:
    return CollectedAttempt(
        "uid-1",
        1,
        "trial-a",
        "team",
        folder / "output.log",
        folder / "metrics.json",
        ("loss", "Validation-accuracy"),
    )


# ---- figures: a process of its own, so that its memory and CPU time are the collector's ---------

MEASURED = """
import asyncio, json, sys, time
from pathlib import Path
from tunesmith_api.observations import Acknowledged
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet
from tunesmith_metrics_collector.sink import GrpcObservationLog

class Nowhere:
    rows = 0
    async def append(self, report):
        self.rows += len(report.rows)
        return Acknowledged(report.offset)
    async def sources(self, trial_uid, attempt):
        return {}

def peak():  # ru_maxrss would begin with the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

async def main(path, seconds):
    before, began, cpu = peak(), time.perf_counter(), time.process_time()
    sink = Nowhere()
    fleet = CollectorFleet(sink)
    fleet.start(CollectedAttempt("u", 1, "t", "n", Path(path), Path(path + ".json"),
                                 ("loss", "Validation-accuracy")))
    if seconds:
        await asyncio.sleep(seconds)
        await fleet.aclose()
    else:
        fleet.finish("u", 1)
        await fleet.wait("u", 1)
    print(json.dumps({"rows": sink.rows, "memory": peak() - before,
                      "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def measured(path: Path, idle_seconds: float = 0) -> dict[str, float]:
    command = [sys.executable, "-c", MEASURED, str(path), str(idle_seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=100)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def write_log(path: Path, size: int, every: int) -> int:
    """A log of about `size` bytes with metrics on each `every`-th line; how many rows it has."""
    plain = b"2024-01-01T00:00:00Z INFO data loader: batch 123/4567 took 0.12s, queue depth 8\n"
    metric = b"2024-01-01T00:00:00.5Z INFO epoch 3 loss=0.3456 Validation-accuracy=0.98 lr=0.001\n"
    thousand = b"".join(metric if i % every == 0 else plain for i in range(1000))
    times = size // len(thousand) + 1
    with path.open("wb") as file:
        for _ in range(times):
            file.write(thousand)
    return 2 * times * len(range(0, 1000, every))


@pytest.mark.parametrize("every", [100, 1001], ids=["1% metric lines", "nearly none"])
def test_200_mib_are_collected_in_little_memory(tmp_path: Path, every: int) -> None:
    log = tmp_path / "output.log"
    expected = write_log(log, 200 * MIB, every)
    figures = measured(log)
    print(f"{log.stat().st_size / figures['seconds'] / MIB:.0f} MiB/s", figures)
    assert figures["rows"] == expected
    assert figures["memory"] <= 64 * MIB


def test_one_endless_line_and_dense_metrics_take_little_memory(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    with log.open("wb") as file:
        file.write(b"loss=1 " * (100 * MIB // 7) + b"\n" + b"loss=1\n" * 200_000)
    figures = measured(log)
    assert figures["rows"] == 1024 + 200_000
    assert figures["memory"] <= 64 * MIB


def test_an_idle_collector_costs_next_to_nothing(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_text("loss=1\n")
    figures = measured(log, idle_seconds=4)
    print(f"{figures['cpu'] / figures['seconds']:.2%} of a core", figures)
    assert figures["cpu"] / figures["seconds"] < 0.02  # the promise is 1%; the first second counts


# ---- a real service, killed and started again ---------------------------------------------------


class Service:
    """`python -m tunesmith_observation` on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"unix:{folder}/s/o.sock"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        database = f"sqlite:///{self._folder}/o.db"
        arguments = ["-m", "tunesmith_observation", "--listen", self.address, "--db", database]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            assert b"listening" in await self._process.stdout.readline()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Service]:
    service = Service(folder)
    try:
        await service.start()
        yield service
    finally:
        await service.kill()


async def write_slowly(path: Path, stop: asyncio.Event) -> int:
    """Writes numbered losses until told to stop; how many."""
    count = 0
    with path.open("a") as file:
        while not stop.is_set():
            for _ in range(20):
                file.write(f"step {count}: loss={count}\n")
                count += 1
            file.flush()
            await asyncio.sleep(0.005)
    return count


def test_a_service_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as service, open_channel(service.address) as channel:
            log = GrpcObservationLog(channel)
            fleet = CollectorFleet(log, Timing(poll=0.01, last_retry=0.2))
            stop = asyncio.Event()
            writing = asyncio.create_task(write_slowly(tmp_path / "output.log", stop))
            fleet.start(attempt(tmp_path))
            stored = 0
            for _ in range(4):
                stored = await grown(log, beyond=stored)
                await service.kill()
                await service.start()
            stop.set()
            written = await writing
            fleet.finish("uid-1", 1)
            async with asyncio.timeout(60):
                await fleet.wait("uid-1", 1)
            rows = await log.rows("uid-1", 1)
            assert [row.value for row in rows] == [str(i) for i in range(written)]
            assert all(state.ended for state in (await log.sources("uid-1", 1)).values())
            await fleet.aclose()

    asyncio.run(scenario())


async def grown(log: GrpcObservationLog, beyond: int) -> int:
    """Waits until more of the output is acknowledged, through absences of the service."""
    async with asyncio.timeout(30):
        while (offset := await stored_offset(log)) <= beyond:
            await asyncio.sleep(0.01)
        return offset


async def stored_offset(log: GrpcObservationLog) -> int:
    try:
        state = (await log.sources("uid-1", 1)).get("stdout")
    except Unavailable:
        return 0
    return state.offset if state is not None else 0


def test_a_collector_killed_in_the_middle_is_followed_by_one_that_completes_it(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as service, open_channel(service.address) as channel:
            log = GrpcObservationLog(channel)
            (tmp_path / "output.log").write_text("".join(f"loss={i}\n" for i in range(20_000)))
            collector = await asyncio.create_subprocess_exec(
                sys.executable, "-c", REMOTE, service.address, str(tmp_path)
            )
            await grown(log, beyond=0)
            collector.kill()
            await collector.wait()
            fleet = CollectorFleet(log)
            fleet.start(attempt(tmp_path))
            fleet.finish("uid-1", 1)
            async with asyncio.timeout(60):
                await fleet.wait("uid-1", 1)
            rows = await log.rows("uid-1", 1)
            assert [row.value for row in rows] == [str(i) for i in range(20_000)]
            await fleet.aclose()

    asyncio.run(scenario())


REMOTE = """
import asyncio, sys
from pathlib import Path
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

async def main(address, folder):
    fleet = CollectorFleet(GrpcObservationLog(open_channel(address)))
    output, metrics = Path(folder, "output.log"), Path(folder, "metrics.json")
    fleet.start(CollectedAttempt("uid-1", 1, "trial-a", "team", output, metrics, ("loss",)))
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
