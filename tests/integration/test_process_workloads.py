# SPDX-License-Identifier: Apache-2.0
"""Process workloads with real processes: what they run, end, survive and never do twice."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_attempts import (
    SECONDS,
    STUBBORN,
    Bench,
    bench_in,
    end_of,
    ended,
    eventually,
    is_gone,
    job_of,
    pid_of,
    running,
    supervisor_of,
    until_file,
)

from tunesmith_controller.ports import (
    JobPresent,
    JobState,
    JobWaiting,
    Unavailable,
)
from tunesmith_controller.workloads import process_table
from tunesmith_controller.workloads.testing import is_over, is_running, until

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


class TestEndings:
    @pytest.mark.parametrize(
        ("script", "kind", "message"),
        [
            ("exit 0", "Complete", "the command exited with code 0"),
            ("exit 1", "Failed", "the command exited with code 1"),
            (
                "exit 137",
                "Failed",
                "the command exited with code 137 (killed by SIGKILL; often out of memory)",
            ),
            (
                "kill -9 $$",
                "Failed",
                "the command exited with code 137 (killed by SIGKILL; often out of memory)",
            ),
            (
                "kill -SEGV $$",
                "Failed",
                "the command exited with code 139 (killed by SIGSEGV)",
            ),
        ],
    )
    def test_the_exit_code_shows_as_a_condition(
        self, bench: Bench, script: str, kind: str, message: str
    ) -> None:
        condition = end_of(asyncio.run(ended(bench.workloads(), bench.shell(script))))
        assert (condition["type"], condition["message"]) == (kind, message)

    def test_the_exit_code_is_annotated(self, bench: Bench) -> None:
        state = asyncio.run(ended(bench.workloads(), bench.shell("exit 3")))
        assert isinstance(state, JobPresent)
        assert state.manifest["metadata"]["annotations"] == {"tunesmith.dev/exit-code": "3"}

    def test_a_command_that_vanished_while_it_waited_fails_with_the_reason(
        self, bench: Bench
    ) -> None:
        command = bench.folder / "train"
        command.write_text("#!/no/such/interpreter\n")
        command.chmod(0o700)
        state = asyncio.run(ended(bench.workloads(), bench.run(job_of(str(command)))))
        condition = end_of(state)
        assert condition["reason"] == "StartFailed"
        assert "No such file or directory" in condition["message"]

    def test_output_and_errors_go_to_one_file_in_order(self, bench: Bench) -> None:
        run = bench.shell("echo one; echo two >&2; echo three")
        workloads = bench.workloads()
        asyncio.run(ended(workloads, run))
        assert workloads.output_path(run.trial_uid, 1).read_text() == "one\ntwo\nthree\n"

    def test_a_hundred_megabytes_of_output_are_kept_whole(self, bench: Bench) -> None:
        run = bench.python("for _ in range(100): os.write(1, b'x' * 1_000_000)")
        workloads = bench.workloads()
        asyncio.run(ended(workloads, run))
        assert workloads.output_path(run.trial_uid, 1).stat().st_size == 100_000_000

    def test_a_program_can_be_ended_by_a_broken_pipe(self, bench: Bench) -> None:
        """Python, so the supervisor too, ignores SIGPIPE; its children must not inherit that."""
        state = asyncio.run(ended(bench.workloads(), bench.shell("yes | head -n 1; kill -PIPE $$")))
        assert "SIGPIPE" in end_of(state)["message"]


class TestWholeTrees:
    def test_a_child_that_ignores_sigterm_is_gone_when_the_run_is_over(self, bench: Bench) -> None:
        run = bench.python(STUBBORN + "stubborn('child')")
        state = asyncio.run(ended(bench.workloads(), run))
        assert end_of(state)["type"] == "Complete"
        assert is_gone(pid_of(bench, "child"))

    def test_a_double_forked_child_in_its_own_session_is_gone_too(self, bench: Bench) -> None:
        """Its environment is empty as well: it is found by descent alone."""
        program = STUBBORN + textwrap.dedent(
            """
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.closerange(0, 3)
                    os.execve(sys.executable, ["python", "-ISc", NOTE, folder + "/escaped"], {})
                os._exit(0)
            os.wait()
            wait_for("escaped")
            """
        )
        asyncio.run(ended(bench.workloads(), bench.python(program)))
        assert is_gone(pid_of(bench, "escaped"))

    def test_orphans_of_a_long_run_do_not_stay_as_zombies(self, bench: Bench) -> None:
        """The supervisor inherits them, so it has to reap them."""
        run = bench.shell("for i in 1 2 3 4 5; do (true &) ; done; touch orphaned; sleep 600")

        async def scenario() -> bool:
            workloads = bench.workloads()
            await running(workloads, run)
            parent = supervisor_of(bench, run)
            await asyncio.to_thread(eventually, (bench.attempt(run).work / "orphaned").exists)
            reaped = await asyncio.to_thread(eventually, lambda: len(children_of(parent)) == 1)
            await workloads.stop(run)
            await until(workloads, run, is_over, SECONDS)
            return reaped

        assert asyncio.run(scenario())

    def test_stopping_ends_a_program_that_ignores_sigterm_and_its_escapees(
        self, bench: Bench
    ) -> None:
        program = STUBBORN + "stubborn('child', os.setsid)\nignore()\ntime.sleep(600)"
        run = bench.python(program)

        async def scenario() -> JobState:
            workloads = bench.workloads(grace=0.3)
            await running(workloads, run)
            await until_file(bench.folder / "child")
            await workloads.stop(run)
            return await until(workloads, run, is_over, SECONDS)

        assert end_of(asyncio.run(scenario()))["reason"] == "Stopped"
        assert is_gone(pid_of(bench, "child"))

    def test_stopping_lets_a_program_save_its_work(self, bench: Bench) -> None:
        run = bench.shell(
            "trap 'echo saved; exit 0' TERM; touch ready; while :; do sleep 0.02; done"
        )

        async def scenario() -> JobState:
            workloads = bench.workloads()
            await running(workloads, run)
            await asyncio.to_thread(eventually, (bench.attempt(run).work / "ready").exists)
            await workloads.stop(run)
            return await until(workloads, run, is_over, SECONDS)

        condition = end_of(asyncio.run(scenario()))
        assert (condition["type"], condition["reason"]) == ("Failed", "Stopped")
        assert "saved\n" in bench.attempt(run).output.read_text()

    def test_stopping_ends_a_suspended_program(self, bench: Bench) -> None:
        run = bench.shell("kill -STOP $$; exit 0")

        async def scenario() -> JobState:
            workloads = bench.workloads(grace=600)
            await running(workloads, run)
            program = bench.attempt(run).started()
            assert program is not None
            await asyncio.to_thread(eventually, lambda: state_of(program.program.pid) == "T")
            await workloads.stop(run)
            return await until(workloads, run, is_over, SECONDS)

        assert end_of(asyncio.run(scenario()))["reason"] == "Stopped"

    def test_a_bounded_fork_bomb_is_ended(self, bench: Bench) -> None:
        program = textwrap.dedent(
            """
            open(folder + "/bomb", "w").write(str(os.getpid()))
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            until = time.monotonic() + 60
            depth = 0
            while time.monotonic() < until:
                if depth < 5 and os.fork() == 0:
                    depth += 1
                elif os.fork() == 0:  # a chain of short lives, each the parent of the next
                    time.sleep(0.005)
                else:
                    os._exit(0) if depth else os.wait()
            """
        )
        run = bench.python(program)

        async def scenario() -> JobState:
            workloads = bench.workloads(grace=0.1)
            await running(workloads, run)
            await until_file(bench.folder / "bomb")
            await workloads.stop(run)
            return await until(workloads, run, is_over, SECONDS)

        assert end_of(asyncio.run(scenario()))["reason"] == "Stopped"


class TestSlots:
    def test_attempts_start_in_order_as_cpus_come_free(self, bench: Bench) -> None:
        runs = [bench.waiting(cpu="2") for _ in range(3)]

        async def scenario() -> list[int]:
            workloads = bench.workloads(cpus=2)
            for run in runs:
                await workloads.ensure(run)
            seen = []
            for run in runs:
                await until(workloads, run, is_running, SECONDS)
                await until_file(bench.folder / f"starts-{run.trial_uid}")
                seen.append(sum(bench.starts(each) for each in runs))
                bench.let_end(run)
                await until(workloads, run, is_over, SECONDS)
            return seen

        assert asyncio.run(scenario()) == [1, 2, 3]

    def test_a_new_controller_counts_what_runs_already(self, bench: Bench) -> None:
        first, second = bench.waiting(cpu="3"), bench.shell("exit 0", cpu="2")

        async def scenario() -> JobState:
            await running(bench.workloads(cpus=4), first)
            waiting = await bench.workloads(cpus=4).ensure(second)
            stopping = bench.workloads(cpus=4)
            await stopping.stop(second)
            bench.let_end(first)
            await until(stopping, first, is_over, SECONDS)
            return waiting

        assert asyncio.run(scenario()) == JobWaiting("waiting for 2 CPUs (1 of 4 free)")

    def test_a_trial_larger_than_the_machine_runs_alone_and_that_is_said_once(
        self, bench: Bench
    ) -> None:
        runs = [bench.shell("exit 0", cpu="64") for _ in range(2)]

        async def scenario() -> list[JobState]:
            workloads = bench.workloads(cpus=2)
            return [await ended(workloads, run) for run in runs]

        assert [end_of(state)["type"] for state in asyncio.run(scenario())] == ["Complete"] * 2
        assert bench.notices == [
            "a trial asks for 64 CPUs and 2 may be used here: it runs with 2, alone"
        ]


class TestFiles:
    def test_everything_of_a_trial_is_for_its_owner_only(self, bench: Bench) -> None:
        run = bench.shell("exit 0")
        asyncio.run(ended(bench.workloads(), run))
        paths = [bench.root, *bench.root.rglob("*")]
        assert {path.stat().st_mode & 0o077 for path in paths} == {0}

    def test_no_secret_of_the_controller_reaches_a_trial(self, bench: Bench) -> None:
        environ = {**os.environ, "DB_PASSWORD": "canary", "HTTPS_PROXY": "http://u:canary@p"}
        run = bench.shell("env")
        asyncio.run(ended(bench.workloads(environ=environ), run))
        texts = [path.read_bytes() for path in bench.root.rglob("*") if path.is_file()]
        assert not any(b"canary" in text for text in texts)

    def test_a_supervisor_has_no_secret_and_is_out_of_the_terminals_reach(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN", "canary")
        run = bench.waiting()

        async def scenario() -> tuple[bytes, bool]:
            await running(bench.workloads(), run)
            pid = supervisor_of(bench, run)
            row = process_table.read_process(pid)
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            return environ, row is not None and row.session == pid

        environ, leads_its_session = asyncio.run(scenario())
        assert b"canary" not in environ
        assert leads_its_session

    def test_a_program_knows_its_trial_and_where_to_report(self, bench: Bench) -> None:
        run = bench.shell(
            'echo "$TUNESMITH_TRIAL_NAME $KATIB_TRIAL_NAME"; cat /dev/null; '
            'echo "$TUNESMITH_ATTEMPT $TUNESMITH_METRICS_FILE $PYTHONUNBUFFERED"'
        )
        workloads = bench.workloads()
        asyncio.run(ended(workloads, run))
        name, metrics = run.trial.name, workloads.metrics_path(run.trial_uid, 1)
        assert bench.attempt(run).output.read_text() == f"{name} {name}\n1 {metrics} 1\n"

    def test_a_trial_is_removed_whole_but_not_while_it_runs(self, bench: Bench) -> None:
        run = bench.waiting()

        async def scenario() -> None:
            workloads = bench.workloads()
            await running(workloads, run)
            with pytest.raises(Unavailable):
                await workloads.remove(run.trial_uid)
            bench.let_end(run)
            await until(workloads, run, is_over, SECONDS)
            await workloads.remove(run.trial_uid)

        asyncio.run(scenario())
        assert list(bench.root.iterdir()) == []

    def test_a_disk_that_refuses_is_unavailable_and_works_later(self, bench: Bench) -> None:
        run = bench.shell("exit 0")

        async def scenario() -> JobState:
            workloads = bench.workloads()
            bench.root.write_text("in the way")
            with pytest.raises(Unavailable):
                await workloads.ensure(run)
            bench.root.unlink()
            return await ended(workloads, run)

        assert end_of(asyncio.run(scenario()))["type"] == "Complete"


def state_of(pid: int) -> str:
    row = process_table.read_process(pid)
    return row.state if row else ""


def children_of(pid: int) -> list[int]:
    return [row.pid for row in process_table.list_processes() if row.parent == pid]
