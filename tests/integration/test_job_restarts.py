# SPDX-License-Identifier: Apache-2.0
"""`backoffLimit`: a program that fails is started again, within its attempt, so often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_attempts import SECONDS, Bench, bench_in, end_of, ended, job_of, until_file

from tunesmith_controller.ports import Invalid, JobPresent, JobState, Json
from tunesmith_controller.workloads import supervisor
from tunesmith_controller.workloads.testing import is_running, until

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


def failing(times: int, folder: Path, *, limit: Any, policy: str = "Never") -> Json:
    """A Job that fails so often, then succeeds; it prints which run it is."""
    count = folder / "count"
    script = (
        f"n=$(cat {count} 2>/dev/null || echo 0); n=$((n+1)); echo $n > {count}; "
        f"echo run=$n; [ $n -gt {times} ] || exit 7"
    )
    spec = job_of("sh", "-c", script)
    spec["spec"]["template"]["spec"]["restartPolicy"] = policy
    if limit is not None:
        spec["spec"]["backoffLimit"] = limit
    return spec


def outcome(bench: Bench, spec: Json) -> tuple[dict[str, Any], Json, str]:
    run = bench.run(spec)
    state = asyncio.run(ended(bench.workloads(), run))
    assert isinstance(state, JobPresent)
    output = bench.attempt(run).output.read_text()
    return end_of(state), state.manifest["status"], output


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_a_program_that_fails_once_is_started_again(bench: Bench, policy: str) -> None:
    spec = failing(1, bench.folder, limit=3, policy=policy)
    condition, status, output = outcome(bench, spec)
    assert condition["type"] == "Complete"
    assert (status["failed"], status["succeeded"]) == (1, 1)
    assert output == "run=1\nrun=2\n"


def test_the_limit_is_kept_and_told(bench: Bench) -> None:
    condition, status, output = outcome(bench, failing(9, bench.folder, limit=1))
    assert (condition["type"], condition["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert condition["message"] == "it failed 2 times; the last: the command exited with code 7"
    assert status["failed"] == 2
    assert output.count("run=") == 2


def test_without_a_limit_a_crash_is_told_at_once(bench: Bench) -> None:
    condition, status, output = outcome(bench, failing(9, bench.folder, limit=None))
    assert (condition["reason"], status["failed"]) == ("CommandFailed", 1)
    assert output == "run=1\n"


def test_a_stop_between_two_runs_is_the_end(bench: Bench) -> None:
    async def scenario() -> dict[str, Any]:
        workloads, run = bench.workloads(), bench.run(failing(99, bench.folder, limit=99))
        await workloads.ensure(run)
        await until_file(bench.folder / "count")
        await workloads.stop(run)
        return end_of(await ended(workloads, run))

    assert asyncio.run(scenario())["reason"] == "Stopped"


def test_failures_show_while_it_goes_on(bench: Bench) -> None:
    async def scenario() -> JobPresent:
        workloads, run = bench.workloads(), bench.run(failing(99, bench.folder, limit=99))
        await workloads.ensure(run)
        state = await until(workloads, run, has_failed_once, SECONDS)
        await workloads.stop(run)
        await ended(workloads, run)
        assert isinstance(state, JobPresent)
        return state

    state = asyncio.run(scenario())
    assert is_running(state)
    assert state.manifest["metadata"]["annotations"] == {"tunesmith.dev/exit-code": "7"}


def has_failed_once(state: JobState) -> bool:
    return isinstance(state, JobPresent) and bool(state.manifest["status"].get("failed"))


def test_the_deadline_is_for_all_runs_together(bench: Bench) -> None:
    spec = failing(99, bench.folder, limit=99)
    spec["spec"]["activeDeadlineSeconds"] = 2
    condition, _, _ = outcome(bench, spec)
    assert condition["reason"] == "DeadlineExceeded"


@pytest.mark.parametrize("limit", ["3", -1, 1.5, True])
def test_what_is_no_limit_is_refused(bench: Bench, limit: Any) -> None:
    with pytest.raises(Invalid, match=r"backoffLimit is .* whole number"):
        outcome(bench, failing(0, bench.folder, limit=limit))


def test_a_policy_that_no_job_has_is_refused(bench: Bench) -> None:
    with pytest.raises(Invalid, match="restartPolicy is 'Always'"):
        outcome(bench, failing(0, bench.folder, limit=1, policy="Always"))


@pytest.mark.parametrize(("restarts", "seconds"), [(0, 1), (1, 2), (5, 32), (6, 60), (10**9, 60)])
def test_each_restart_waits_twice_as_long_up_to_a_minute(restarts: int, seconds: float) -> None:
    assert supervisor.restart_delay(restarts) == seconds
