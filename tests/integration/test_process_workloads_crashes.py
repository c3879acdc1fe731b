# SPDX-License-Identifier: Apache-2.0
"""Process workloads whose controller, supervisor or machine dies: never twice, never a stranger."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import local_attempts
import pytest
from local_attempts import (
    SECONDS,
    STUBBORN,
    Bench,
    WallClock,
    bench_in,
    end_of,
    ended,
    eventually,
    is_gone,
    pid_of,
    running,
    supervisor_of,
    until_file,
)

from tunesmith_controller.ports import JobLost, JobState, JobWaiting, Key, TrialRun
from tunesmith_controller.workloads import process_table, supervisor
from tunesmith_controller.workloads.attempt_folder import Ending, Launch
from tunesmith_controller.workloads.job_spec import Surroundings, plan
from tunesmith_controller.workloads.testing import has_succeeded, is_over, is_running, until

pytestmark = pytest.mark.integration


VICTIMS = ("controller", "supervisor", "program")

# How a process hides: each leaves one trace, by which it is still found.
DISGUISES = {
    "in its own session": "stubborn('child', os.setsid)\n",
    "with no output": "stubborn('child', lambda: (os.setsid(), os.closerange(0, 3)))\n",
    "with no environment": textwrap.dedent(
        """
        if os.fork() == 0:
            os.setsid()
            os.execve(sys.executable, ["python", "-ISc", NOTE, folder + "/child"], {})
        """
    ),
    "with neither, below one that is known": textwrap.dedent(
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 3)
                os.execve(sys.executable, ["python", "-ISc", NOTE, folder + "/child"], {})
            time.sleep(600)
        """
    ),
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


class TestDeaths:
    def test_a_killed_supervisor_takes_its_program_along_at_once(self, bench: Bench) -> None:
        """Before any controller looks."""
        run = bench.waiting()

        async def scenario() -> int:
            await running(bench.workloads(), run)
            await until_file(bench.folder / f"starts-{run.trial_uid}")
            started = bench.attempt(run).started()
            assert started is not None
            os.kill(started.supervisor.pid, signal.SIGKILL)
            return started.program.pid

        program = asyncio.run(scenario())
        assert eventually(lambda: is_gone(program))

    @pytest.mark.parametrize("disguise", DISGUISES)
    def test_what_a_killed_supervisor_left_running_is_ended_before_the_run_is_lost(
        self, bench: Bench, disguise: str
    ) -> None:
        run = bench.python(STUBBORN + DISGUISES[disguise] + "time.sleep(600)")

        async def scenario() -> JobState:
            workloads = bench.workloads()
            await running(workloads, run)
            await until_file(bench.folder / "child")
            os.kill(supervisor_of(bench, run), signal.SIGKILL)
            return await until(workloads, run, is_over, SECONDS)

        assert isinstance(asyncio.run(scenario()), JobLost)
        assert is_gone(pid_of(bench, "child"))

    @pytest.mark.parametrize("order", list(itertools.permutations(VICTIMS)), ids="-".join)
    def test_kills_in_any_order_leave_nothing_and_start_nothing_twice(
        self, bench: Bench, order: tuple[str, ...]
    ) -> None:
        run = bench.waiting()
        with controller_of(bench, run) as controller:
            asyncio.run(until(bench.workloads(), run, is_running, SECONDS))
            started = bench.attempt(run).started()
            assert started is not None
            pids = {"supervisor": started.supervisor.pid, "program": started.program.pid}
            for victim in order:
                kill_if_there(pids.get(victim, controller.pid))
        state = asyncio.run(ended(bench.workloads(), run))
        assert not has_succeeded(state)
        assert bench.starts(run) <= 1

    def test_a_lost_run_stays_lost_and_is_not_started_again(self, bench: Bench) -> None:
        run = bench.waiting()

        async def scenario() -> JobState:
            await running(bench.workloads(), run)
            await until_file(bench.folder / f"starts-{run.trial_uid}")
            os.kill(supervisor_of(bench, run), signal.SIGKILL)
            await until(bench.workloads(), run, is_over, SECONDS)
            return await bench.workloads().ensure(run)

        assert isinstance(asyncio.run(scenario()), JobLost)
        assert bench.starts(run) == 1

    def test_an_end_that_was_recorded_just_before_the_look_is_kept(self, bench: Bench) -> None:
        """The supervisor writes its record and is gone between two looks at the files."""
        run = bench.shell("exit 0")
        asyncio.run(ended(bench.workloads(), run))
        supervisor_pid = supervisor_of(bench, run)
        assert eventually(lambda: is_gone(supervisor_pid))
        settled = bench.attempt(run).settle(WallClock().now())
        assert settled is not None
        assert settled == bench.attempt(run).exit()
        assert settled.ending is Ending.EXITED

    def test_the_loss_of_a_run_is_announced(self, bench: Bench) -> None:
        run = bench.waiting()

        async def scenario() -> Key:
            workloads = bench.workloads()
            await running(workloads, run)
            os.kill(supervisor_of(bench, run), signal.SIGKILL)
            async with asyncio.timeout(SECONDS):
                async for key in workloads.changed():
                    if is_over(await workloads.observe(run)):
                        return key
            raise AssertionError

        assert asyncio.run(scenario()) == run.trial

    def test_a_supervisor_that_is_told_to_end_loses_the_run_in_order(self, bench: Bench) -> None:
        """As at a shutdown, when everything gets SIGTERM: an infrastructure failure."""
        run = bench.waiting()

        async def scenario() -> JobState:
            workloads = bench.workloads()
            await running(workloads, run)
            os.kill(supervisor_of(bench, run), signal.SIGTERM)
            return await until(workloads, run, is_over, SECONDS)

        state = asyncio.run(scenario())
        assert isinstance(state, JobLost)
        assert "shutdown" in state.reason

    def test_a_killed_controller_is_followed_by_one_that_carries_on(self, bench: Bench) -> None:
        run = bench.waiting()
        with controller_of(bench, run):
            pass  # and killed

        async def scenario() -> JobState:
            workloads = bench.workloads()
            await until(workloads, run, is_running, SECONDS)
            bench.let_end(run)
            return await until(workloads, run, is_over, SECONDS)

        assert end_of(asyncio.run(scenario()))["type"] == "Complete"
        assert bench.starts(run) == 1

    def test_an_attempt_accepted_by_a_killed_controller_is_started_by_the_next(
        self, bench: Bench
    ) -> None:
        """Killed between the launch file and the supervisor: here, because no CPU was free."""
        first, second = bench.waiting(cpu="4"), bench.shell("exit 0", cpu="4")

        async def accept() -> JobState:
            workloads = bench.workloads()
            await running(workloads, first)
            return await workloads.ensure(second)

        async def carry_on() -> JobState:
            workloads = bench.workloads()
            looking = asyncio.ensure_future(anext(aiter(workloads.changed())))
            bench.let_end(first)
            await until(workloads, first, is_over, SECONDS)
            state = await until(workloads, second, is_over, SECONDS)
            await looking
            return state

        assert asyncio.run(accept()) == JobWaiting("waiting for 4 CPUs (0 of 4 free)")
        assert end_of(asyncio.run(carry_on()))["type"] == "Complete"
        assert bench.starts(second) == 1

    @pytest.mark.parametrize("moment", ["before the lock", "with the lock", "before the record"])
    def test_a_supervisor_killed_before_its_record_has_run_nothing_and_is_replaced(
        self, bench: Bench, moment: str
    ) -> None:
        run = bench.shell("exit 0")
        prepare_without_start(bench, run)
        assert at(moment, bench.attempt(run).path, signal.SIGKILL) == -signal.SIGKILL
        state = asyncio.run(ended(bench.workloads(), run))
        assert end_of(state)["type"] == "Complete"
        assert bench.starts(run) == 1

    def test_a_supervisor_killed_after_its_record_is_never_replaced(self, bench: Bench) -> None:
        run = bench.shell("exit 0")
        prepare_without_start(bench, run)
        at("after the record", bench.attempt(run).path, signal.SIGKILL)
        subprocess.run(
            [sys.executable, supervisor.__file__, bench.attempt(run).path / supervisor.LAUNCH],
            check=True,
        )
        assert isinstance(asyncio.run(ended(bench.workloads(), run)), JobLost)
        assert bench.starts(run) == 0

    def test_a_stop_between_record_and_start_forbids_the_start(self, bench: Bench) -> None:
        run = bench.shell("exit 0")
        prepare_without_start(bench, run)
        bench.attempt(run).request_stop()
        subprocess.run(
            [sys.executable, supervisor.__file__, bench.attempt(run).path / supervisor.LAUNCH],
            check=True,
        )
        state = asyncio.run(ended(bench.workloads(), run))
        assert end_of(state)["message"] == "stopped before it started"
        assert bench.starts(run) == 0

    def test_a_signal_to_a_program_that_is_not_yet_itself_reaches_it(self, bench: Bench) -> None:
        """Between fork and exec it still has its supervisor's handlers."""
        run = bench.shell("exit 0")
        prepare_without_start(bench, run)
        at("before the exec", bench.attempt(run).path, signal.SIGTERM)
        ended = bench.attempt(run).exit()
        assert ended is not None
        assert (ended.code, ended.signal) == (None, signal.SIGTERM)


class TestIdentity:
    def test_a_process_with_the_pid_of_a_dead_supervisor_is_neither_trusted_nor_signalled(
        self, bench: Bench
    ) -> None:
        """The pids and the session of the record now belong to somebody else."""
        run = bench.waiting()
        prepare_without_start(bench, run)
        with stranger() as other:
            write_record(bench, run, pid=other.pid, start="12345")

            async def scenario() -> JobState:
                workloads = bench.workloads()
                await workloads.stop(run)
                return await until(workloads, run, is_over, SECONDS)

            assert isinstance(asyncio.run(scenario()), JobLost)
            assert other.poll() is None

    def test_after_a_restart_of_the_machine_a_record_means_nobody(self, bench: Bench) -> None:
        run = bench.waiting()
        prepare_without_start(bench, run)
        with stranger() as other:
            row = process_table.read_process(other.pid)
            assert row is not None
            write_record(bench, run, pid=other.pid, start=row.start, boot="another boot")
            state = asyncio.run(until(bench.workloads(), run, is_over, SECONDS))
            assert state == JobLost("the machine was restarted while it ran")
            assert other.poll() is None

    def test_whoever_reads_the_output_is_not_taken_for_the_run(self, bench: Bench) -> None:
        run = bench.shell("echo line; sleep 600")

        async def scenario() -> int | None:
            await running(bench.workloads(), run)
            output = bench.attempt(run).output
            await until_file(output)
            with subprocess.Popen(["tail", "-f", output], stdout=subprocess.DEVNULL) as reader:
                os.kill(supervisor_of(bench, run), signal.SIGKILL)
                await until(bench.workloads(), run, is_over, SECONDS)
                survived = reader.poll()
                reader.kill()
            return survived

        assert asyncio.run(scenario()) is None

    def test_a_stop_at_any_moment_of_the_start_is_heard(self, bench: Bench) -> None:
        """The grace period is far longer than the test: no SIGTERM may be lost."""
        runs = [bench.shell("sleep 600") for _ in range(8)]

        async def scenario() -> list[JobState]:
            one, other = bench.workloads(grace=600), bench.workloads(grace=600)
            for number, run in enumerate(runs):
                await one.ensure(run)
                await asyncio.sleep(number * 0.004)  # spread over the start of a supervisor
                await other.stop(run)
            return [await until(one, run, is_over, SECONDS) for run in runs]

        assert {end_of(state)["reason"] for state in asyncio.run(scenario())} == {"Stopped"}
        assert all(bench.starts(run) <= 1 for run in runs)


def stranger() -> subprocess.Popen[bytes]:
    """A process, and session, that has nothing to do with any attempt."""
    return Stranger(["sleep", "600"], start_new_session=True)


class Stranger(subprocess.Popen[bytes]):
    def __exit__(self, *exc: object) -> None:
        self.kill()
        super().__exit__(None, None, None)


# ---- crashes ------------------------------------------------------------------------------------


def prepare_without_start(bench: Bench, run: TrialRun) -> None:
    """As a controller leaves it that accepts the run and dies before it starts a supervisor."""
    folder = bench.attempt(run)
    made = plan(run, Surroundings(os.environ, folder.metrics, folder.work))
    folder.create()
    folder.work.mkdir()
    launch = Launch(
        made.executable,
        made.argv,
        made.env,
        made.cwd,
        1.0,
        0.3,
        None,
        run.trial,
        made.cpu_millis,
        1,
    )
    folder.accept(launch)


def write_record(bench: Bench, run: TrialRun, pid: int, start: str, boot: str = "") -> None:
    record = {
        "pid": pid,
        "start": start,
        "boot": boot or process_table.boot(),
        "program_pid": pid,
        "program_start": start,
        "started_at": "2025-01-01T00:00:00Z",
    }
    supervisor.write_durably(str(bench.attempt(run).path / supervisor.SUPERVISOR), record)


# The supervisor's own functions, at one of which the process that calls it gets a signal.
MOMENTS = {
    "before the lock": "take_lock",
    "with the lock": "Primary",
    "before the record": "_identities",
    "after the record": "Primary.go",
    "before the exec": "_reset_signals",
}
SIGNALLED = """
import os, sys
from tunesmith_controller.workloads import supervisor
*owner, name = sys.argv[2].split(".")
place = getattr(supervisor, owner[0]) if owner else supervisor
undisturbed = getattr(place, name)
def disturbed(*arguments):
    os.kill(os.getpid(), int(sys.argv[3]))
    return undisturbed(*arguments)
setattr(place, name, disturbed)
supervisor.main(["supervisor", sys.argv[1]])
"""


def at(moment: str, attempt: Path, number: signal.Signals) -> int:
    """Runs a supervisor in which a signal comes at that moment; how it ended."""
    where = [str(attempt / supervisor.LAUNCH), MOMENTS[moment], str(int(number))]
    return subprocess.run([sys.executable, "-c", SIGNALLED, *where], check=False).returncode


CONTROLLER = """
import asyncio, json, sys
from pathlib import Path
from local_attempts import Bench
from tunesmith_controller.ports import Key, TrialRun
async def main():
    bench = Bench(Path(sys.argv[1]))
    key = Key("Trial", "default", sys.argv[2])
    run = TrialRun(key, sys.argv[3], 1, json.load(sys.stdin), "main")
    await bench.workloads().ensure(run)
    print("ensured", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@contextmanager
def controller_of(bench: Bench, run: TrialRun) -> Iterator[subprocess.Popen[str]]:
    """A controller process of its own that has ensured the run; killed in the end."""
    fakes = str(Path(local_attempts.__file__).parent)
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(bench.folder), run.trial.name, run.trial_uid],
        env={**os.environ, "PYTHONPATH": fakes},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with controller:
        assert controller.stdin is not None and controller.stdout is not None
        controller.stdin.write(json.dumps(run.spec))
        controller.stdin.close()
        assert controller.stdout.readline() == "ensured\n"
        yield controller
        controller.kill()


def kill_if_there(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
