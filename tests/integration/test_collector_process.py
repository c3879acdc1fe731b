# SPDX-License-Identifier: Apache-2.0
"""One collector as a process, against a real observation service: how it learns that the program
has ended, and what signals and wrong options do."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tunesmith_metrics_collector.process import until_process_ends
from tunesmith_observation.server import ServerOptions, start_server
from tunesmith_observation.sql import SqlObservationLog

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "tunesmith_metrics_collector"]
Process = asyncio.subprocess.Process


class Bench:
    """A service, and a folder with what a program writes."""

    def __init__(self, folder: Path, log: SqlObservationLog, address: str) -> None:
        self.folder, self.log, self.address = folder, log, address
        self.path, self.marker = folder / "metrics.log", folder / "ended"
        self.processes: list[Process] = []

    async def start(self, *arguments: str) -> Process:
        """A collector of attempt 1."""
        fixed = ["--sink", self.address, "--trial-uid", "uid-1", "--metric", "loss"]
        fixed += ["--path", str(self.path)]
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *fixed, *arguments, stderr=asyncio.subprocess.PIPE
        )
        self.processes.append(process)
        return process

    async def values(self) -> list[str]:
        return [row.value for row in await self.log.rows("uid-1", 1)]

    async def until(self, *values: str) -> None:
        async with asyncio.timeout(20):
            while await self.values() != list(values):
                await asyncio.sleep(0.02)

    async def ended(self) -> list[str]:
        """Sources that are known to have ended."""
        return [name for name, s in (await self.log.sources("uid-1", 1)).items() if s.ended]


def on_bench(folder: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        log = SqlObservationLog.open(f"sqlite:///{folder}/o.db")
        server, address = await start_server(ServerOptions(f"unix:{folder}/s/o.sock", ""), log)
        bench = Bench(folder, log, address)
        try:
            await scenario(bench)
        finally:
            for process in bench.processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            await server.stop(None)
            await log.aclose()

    asyncio.run(run())


async def status(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), 20)


def test_a_json_file_streams_until_the_end_marker_appears(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        process = await bench.start("--format", "JSON", "--end-marker", str(bench.marker))
        bench.path.write_text('{"loss": 3}\n')
        await bench.until("3")
        with bench.path.open("a") as file:
            file.write('{"loss": "2"}')
        bench.marker.touch()
        assert (await status(process), await bench.values()) == (0, ["3", "2"])
        assert await bench.ended() == ["file"]

    on_bench(tmp_path, scenario)


def test_it_ends_with_the_process_that_it_was_told(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        program = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        bench.processes.append(program)
        process = await bench.start("--kind", "StdOut", "--pid", str(program.pid))
        bench.path.write_text("loss=3\n")
        await bench.until("3")
        assert process.returncode is None
        program.kill()
        assert (await status(process), await bench.ended()) == (0, ["stdout"])

    on_bench(tmp_path, scenario)


def test_a_program_that_ended_before_is_collected_too(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        program = await asyncio.create_subprocess_exec("true")
        await program.wait()
        bench.path.write_text("loss=3\n")
        process = await bench.start("--pid", str(program.pid))
        assert (await status(process), await bench.values()) == (0, ["3"])

    on_bench(tmp_path, scenario)


def test_stopped_while_the_program_runs_it_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        first = await bench.start("--end-marker", str(bench.marker))
        bench.path.write_text("loss=3\n")
        await bench.until("3")
        first.send_signal(signal.SIGTERM)
        assert (await status(first), await bench.ended()) == (128 + signal.SIGTERM, [])
        with bench.path.open("a") as file:
            file.write("loss=2\n")
        bench.marker.touch()
        second = await bench.start("--end-marker", str(bench.marker))
        assert (await status(second), await bench.values()) == (0, ["3", "2"])

    on_bench(tmp_path, scenario)


def test_a_signal_after_the_end_does_not_keep_the_last_rows_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        process = await bench.start("--end-marker", str(bench.marker))
        bench.path.write_text("loss=3\n")
        await bench.until("3")
        with bench.path.open("a") as file:
            file.write("loss=2")
        bench.marker.touch()
        process.send_signal(signal.SIGTERM)
        assert (await status(process), await bench.values()) == (0, ["3", "2"])

    on_bench(tmp_path, scenario)


def test_a_newer_attempt_ends_it_with_the_reason(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.log.fence("uid-1", 2)
        process = await bench.start("--end-marker", str(bench.marker))
        assert await status(process) == 1
        assert process.stderr is not None
        assert b"a newer attempt" in await process.stderr.read()

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--pid or --end-marker"),
        (["--pid", "1", "--filter", "(loss"], "RE2"),
        (["--pid", "1", "--filter", "(a)(b)", "--format", "JSON"], "in JSON a metric is a field"),
        (["--pid", "1", "--sink", "example.org:6789"], "--tls-ca is needed"),
        (["--pid", "1", "--sink", "nowhere"], "neither unix:/PATH nor HOST:PORT"),
        (["--pid", "1", "--attempt", "0"], "an attempt from 1 on"),
        (["--pid", "1", "--tls-ca", "/none"], "/none: No such file"),
    ],
)
def test_options_that_cannot_be_used_end_it_at_once(arguments: list[str], reason: str) -> None:
    fixed = ["--sink", "unix:/none", "--trial-uid", "u", "--metric", "loss", "--path", "/none"]
    done = subprocess.run(
        [*COMMAND, *fixed, *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_waiting_for_a_process_ends_with_it() -> None:
    async def scenario() -> None:
        program = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        waiting = asyncio.create_task(until_process_ends(program.pid))
        assert not (await asyncio.wait([waiting], timeout=0.05))[0]
        program.kill()
        await asyncio.wait_for(waiting, 10)
        await program.wait()

    asyncio.run(scenario())
