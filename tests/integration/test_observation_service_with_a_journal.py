# SPDX-License-Identifier: Apache-2.0
"""The observation service as a process on PostgreSQL, with a journal and a password from a file."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from database_servers import DatabaseServer

from tunesmith_api.errors import Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel

pytest_plugins = ("database_fixtures",)
pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEY = SourceKey("uid-1", 1, "stdout")


@contextmanager
def service(folder: Path, server: DatabaseServer) -> Iterator[str]:
    """Its address."""
    url = str(server.access(server.new_database()).url)
    address = f"unix:{folder}/s/o.sock"
    words = ["--listen", address, "--db", url, "--db-password-file", str(server.password_file)]
    words += ["--journal", str(folder / "journal"), "--connections", "3"]
    argv = [sys.executable, "-m", "tunesmith_observation", *words]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        assert "listening on" in process.stdout.readline(), (folder / "log").read_text()
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "canary" not in (folder / "log").read_text()


def test_it_serves_while_its_database_goes_and_comes(
    postgresql: DatabaseServer, tmp_path: Path
) -> None:
    server = postgresql

    async def scenario(address: str) -> None:
        async with open_channel(address) as channel:
            log = GrpcObservationLog(channel)
            await log.append(Report(KEY, [Row(0, "loss", "0.5")], 10))
            server.kill()
            await log.append(Report(KEY, [Row(1, "loss", "0.4")], 20, ended=True))
            with pytest.raises(Unavailable):
                await log.rows("uid-1", 1)
            server.start()
            async with asyncio.timeout(60):
                while True:
                    try:
                        found = await log.rows("uid-1", 1)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            assert [row.value for row in found] == ["0.5", "0.4"]
            assert (await log.sources("uid-1", 1))["stdout"].ended

    with service(tmp_path, server) as address:
        asyncio.run(scenario(address))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--journal", "/nowhere/j"], "a journal is for a database server"),
        (["--connections", "0"], "0 connections are none"),
    ],
)
def test_options_that_cannot_work_are_refused(
    tmp_path: Path, words: list[str], sentence: str
) -> None:
    usual = ["--listen", f"unix:{tmp_path}/s/o.sock", "--db", f"sqlite:///{tmp_path}/o.db"]
    argv = [sys.executable, "-m", "tunesmith_observation", *usual, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr and "Traceback" not in done.stderr
