# SPDX-License-Identifier: Apache-2.0
"""What the observation service takes in: rows a second through gRPC, by database, with a journal
and without, and while the database is away.

    .venv/bin/python benchmarks/observation_log.py [--quick] [--json] [--clients 20]

Real servers with fsync, each service a process of its own; clients are in this process and report
as collectors do, each its own trial, the next report after the acknowledgement of the last. Cases
take turns; figures are medians over the rounds, and ratios are of medians of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fakes"))

from database_servers import DatabaseServer, MariaDB, PostgreSQL, missing  # noqa: E402

from tunesmith_api.metrics import Row  # noqa: E402
from tunesmith_api.observations import Report, SourceKey  # noqa: E402
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel  # noqa: E402

BATCHES: Final = (1, 100, 1000)
"""Rows of a report: a program that prints seldom, one that prints much, a backlog."""

_HZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Case:
    """A service. `is_away`: its database is, all the time."""

    name: str
    server: str = ""
    has_journal: bool = False
    is_away: bool = False
    beside: str = ""


CASES: Final = (
    Case("sqlite"),
    Case("postgresql", "postgresql"),
    Case("postgresql + journal", "postgresql", has_journal=True, beside="postgresql"),
    Case("mariadb", "mariadb"),
    Case("mariadb + journal", "mariadb", has_journal=True, beside="mariadb"),
    Case("journal alone", "postgresql", has_journal=True, is_away=True, beside="postgresql"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """Of one case with reports of `batch` rows; CPU of the service process."""

    case: str
    batch: int
    rows_a_second: float
    ack_ms_median: float
    ack_ms_p99: float
    cpu_ms_a_report: float
    ratio: float | None = None


@contextmanager
def service(
    case: Case, servers: Mapping[str, DatabaseServer], folder: Path
) -> Iterator[tuple[int, str]]:
    """The pid and the address of a new service on a new database."""
    folder.chmod(0o700)
    address = f"unix:{folder}/o.sock"
    words = ["--listen", address]
    if not case.server:
        words += ["--db", f"sqlite:///{folder}/o.db"]
    else:
        server = servers[case.server]
        access = server.access(server.new_database())
        url = access.url.set(port=1) if case.is_away else access.url
        words += ["--db", str(url), "--db-password-file", str(access.password_file)]
    if case.has_journal:
        words += ["--journal", str(folder / "journal")]
    command = [sys.executable, "-m", "tunesmith_observation", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        process.stdout.readline()
        try:
            yield process.pid, address
        finally:
            process.terminate()


def cpu_of(pid: int) -> float:
    """Seconds of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _HZ


@asynccontextmanager
async def clients(address: str, count: int) -> AsyncIterator[list[GrpcObservationLog]]:
    """Four channels, shared: a channel is a connection."""
    channels = [open_channel(address) for _ in range(min(4, count))]
    try:
        yield [GrpcObservationLog(channels[number % len(channels)]) for number in range(count)]
    finally:
        for channel in channels:
            await channel.close()


async def measure(
    pid: int, address: str, batch: int, count: int, seconds: float
) -> tuple[float, list[float], float]:
    """Rows a second, the times of acknowledgements, CPU a report."""
    times: list[float] = []
    until = 0.0

    async def report(log: GrpcObservationLog, key: SourceKey) -> None:
        first = 0
        while time.perf_counter() < until:
            rows = [Row(i, "loss", f"{i * 0.001:.6f}", 0, i) for i in range(first, first + batch)]
            began = time.perf_counter()
            await log.append(Report(key, rows, first + batch, key.trial_uid, "bench"))
            times.append(time.perf_counter() - began)
            first += batch

    async with clients(address, count) as logs:
        keys = [SourceKey(f"trial-{batch}-{number}", 1, "stdout") for number in range(count)]
        for log, key in zip(logs, keys, strict=True):
            await log.append(Report(key, (), 0, key.trial_uid, "bench"))
        cpu, began = cpu_of(pid), time.perf_counter()
        until = began + seconds
        await asyncio.gather(*(report(*each) for each in zip(logs, keys, strict=True)))
        took = time.perf_counter() - began
        return len(times) * batch / took, times, (cpu_of(pid) - cpu) / len(times)


def run(
    cases: list[Case],
    servers: Mapping[str, DatabaseServer],
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> list[Figure]:
    """All cases, in turns."""
    found: dict[tuple[str, int], list[tuple[float, list[float], float]]] = {}
    for number in range(options.rounds):
        for case in cases:
            with (
                tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder,
                service(case, servers, Path(folder)) as (pid, address),
            ):
                for batch in BATCHES:
                    one = asyncio.run(
                        measure(pid, address, batch, options.clients, options.seconds)
                    )
                    found.setdefault((case.name, batch), []).append(one)
            say(f"round {number + 1}: {case.name}")
    return list(figures(cases, found))


def figures(
    cases: list[Case], found: dict[tuple[str, int], list[tuple[float, list[float], float]]]
) -> Iterator[Figure]:
    """Medians over the rounds."""
    rates = {key: median(rate for rate, _, _ in rounds) for key, rounds in found.items()}
    for case in cases:
        for batch in BATCHES:
            rounds = found[case.name, batch]
            times = sorted(1000 * time for _, each, _ in rounds for time in each)
            other = rates.get((case.beside, batch))
            yield Figure(
                case.name,
                batch,
                rates[case.name, batch],
                median(times),
                quantiles(times, n=100)[98] if len(times) > 1 else times[0],
                1000 * median(cpu for _, _, cpu in rounds),
                rates[case.name, batch] / other if other else None,
            )


def table(result: list[Figure], beside: dict[str, str]) -> Iterator[str]:
    """For people."""
    yield f"{'':22} {'rows/report':>11} {'rows/s':>9} {'ack ms':>8} {'p99':>8} {'CPU ms':>7}"
    for figure in result:
        ratio = f"  {figure.ratio:.2f} of {beside[figure.case]}" if figure.ratio else ""
        yield (
            f"{figure.case:22} {figure.batch:11} {figure.rows_a_second:9,.0f}"
            f" {figure.ack_ms_median:8.1f} {figure.ack_ms_p99:8.1f}"
            f" {figure.cpu_ms_a_report:7.2f}{ratio}"
        )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rows a second into the observation service.")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1.0, 1
    return options


def main() -> None:
    options = parsed()
    kinds = [kind for kind in (PostgreSQL, MariaDB) if not missing(kind)]
    servers = {kind.name: kind(fsync=True) for kind in kinds}
    cases = [case for case in CASES if not case.server or case.server in servers]
    try:
        result = run(cases, servers, options, lambda text: print(text, file=sys.stderr))
    finally:
        for server in servers.values():
            server.end()
    if options.json:
        print(json.dumps([asdict(figure) for figure in result], indent=2))
        return
    for line in table(result, {case.name: case.beside for case in CASES}):
        print(line)


if __name__ == "__main__":
    main()
