# SPDX-License-Identifier: Apache-2.0
"""Containers that are no children of their client, as with docker's daemon.

A stand-in for docker keeps a file per container, which only `kill` takes away: a client that is
killed leaves its container running, and nothing in the process table tells.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_attempts import (
    Bench,
    WallClock,
    bench_in,
    end_of,
    ended,
    job_of,
    supervisor_of,
    until_file,
)

from tunesmith_controller.ports import JobLost, JobState, TrialRun, Unavailable
from tunesmith_controller.workloads.process import ProcessSettings, ProcessWorkloads

pytestmark = pytest.mark.integration

DOCKER = """#!/bin/sh
cd {state}
case $1 in
  info) [ -e down ] && echo "is the daemon running?" >&2 && exit 1
        echo '{{"NCPU": 2, "CpuCfsQuota": true, "MemoryLimit": true}}'; exit 0;;
  kill) [ -e refuse ] || rm -f "up/$2"; exit 0;;
  rm) for name; do :; done
      [ -e "up/$name" ] && echo busy >&2 && exit 1
      echo "Error: No such container: $name" >&2; exit 1;;
esac
echo "$@" >> commands
while [ "$1" != --name ]; do shift; done
[ -e "up/$2" ] && echo "Conflict: $2 is in use" >&2 && exit 125
echo $$ > "up/$2"
while [ -e "up/$2" ]; do sleep 0.02; done
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    (tmp_path / "up").mkdir()
    docker.write_text(DOCKER.format(state=tmp_path))
    docker.chmod(0o700)
    with bench_in(tmp_path) as bench:
        yield bench


def workloads_of(bench: Bench) -> ProcessWorkloads:
    return ProcessWorkloads(
        bench.root,
        clock=WallClock(),
        settings=ProcessSettings(cpus=4, grace=0.2, leftover=0.3, poll=0.02, runtime="docker"),
        environ={"PATH": f"{bench.folder}/bin:{os.environ['PATH']}"},
    )


def containers(bench: Bench) -> list[str]:
    return os.listdir(bench.folder / "up")


async def up(bench: Bench, run: TrialRun) -> ProcessWorkloads:
    workloads = workloads_of(bench)
    await workloads.ensure(run)
    await until_file(bench.folder / "commands")
    return workloads


def test_a_stop_ends_the_container_and_not_only_its_client(bench: Bench) -> None:
    run = bench.run(job_of("train", image="any"))

    async def scenario() -> JobState:
        workloads = await up(bench, run)
        await workloads.stop(run)
        return await ended(workloads, run)

    assert end_of(asyncio.run(scenario()))["reason"] == "Stopped"
    assert containers(bench) == []


def test_an_attempt_is_lost_only_when_its_container_is_gone(bench: Bench) -> None:
    run = bench.run(job_of("train", image="any"))

    async def scenario() -> JobState:
        await up(bench, run)
        os.kill(supervisor_of(bench, run), signal.SIGKILL)
        return await ended(workloads_of(bench), run)

    assert isinstance(asyncio.run(scenario()), JobLost)
    assert containers(bench) == []


def test_while_its_container_cannot_be_ended_an_attempt_is_not_over(bench: Bench) -> None:
    run = bench.run(job_of("train", image="any"))

    async def scenario() -> JobState:
        await up(bench, run)
        (bench.folder / "refuse").touch()
        os.kill(supervisor_of(bench, run), signal.SIGKILL)
        for _ in range(3):
            assert not isinstance(await workloads_of(bench).observe(run), JobLost)
        (bench.folder / "refuse").unlink()
        return await ended(workloads_of(bench), run)

    assert isinstance(asyncio.run(scenario()), JobLost)
    assert containers(bench) == []


def test_limits_are_imposed_as_far_as_the_machine_goes(bench: Bench) -> None:
    resources = {"limits": {"cpu": 16, "memory": "512Mi"}}
    run = bench.run(job_of("train", image="any", resources=resources))

    async def scenario() -> None:
        workloads = await up(bench, run)
        await workloads.stop(run)
        await ended(workloads, run)

    asyncio.run(scenario())
    assert " --cpus 2 --memory 536870912b " in (bench.folder / "commands").read_text()


def test_a_daemon_that_is_down_fails_no_trial(bench: Bench) -> None:
    run = bench.run(job_of("train", image="any"))
    (bench.folder / "down").touch()

    async def scenario() -> None:
        workloads = workloads_of(bench)
        with pytest.raises(Unavailable, match="is the daemon running"):
            await workloads.ensure(run)
        (bench.folder / "down").unlink()
        await workloads.ensure(run)
        await workloads.stop(run)
        await ended(workloads, run)

    asyncio.run(scenario())


def test_what_cannot_be_ended_is_told(bench: Bench) -> None:
    run = bench.run(job_of("train", image="any"))

    async def scenario() -> JobState:
        workloads = await up(bench, run)
        (bench.folder / "refuse").touch()
        await workloads.stop(run)
        return await ended(workloads, run)

    message = end_of(asyncio.run(scenario()))["message"]
    assert "1 of its processes could not be ended" in message
    assert "cannot be removed: busy" in message
