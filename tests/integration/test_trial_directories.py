# SPDX-License-Identifier: Apache-2.0
"""A trial's own files in process mode: checkpoints, the word to stop, its own metrics file."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from local_attempts import Bench, bench_in, end_of, ended, job_of, running, until_file

from tunesmith_controller.ports import TrialRun
from tunesmith_controller.workloads import checkpoints

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


def program(text: str) -> list[str]:
    return [sys.executable, "-c", "import tunesmith_report as t\n" + text]


COUNT = program(
    "p = t.checkpoint_dir() / 'step'\n"
    "n = int(p.read_text()) if p.exists() else 0\n"
    "p.write_text(str(n + 1)); print('step', n + 1)"
)


def printed(bench: Bench, run: TrialRun) -> str:
    asyncio.run(ended(bench.workloads(), run))
    return bench.attempt(run).output.read_text()


def with_helper(bench: Bench, *command: str) -> TrialRun:
    """A run that can import the helper as a training script would."""
    helper = Path(__file__).parents[2] / "sdk" / "report"
    return bench.run(job_of(*command, env=[{"name": "PYTHONPATH", "value": str(helper)}]))


def test_a_later_attempt_finds_what_an_earlier_one_left(bench: Bench) -> None:
    first = with_helper(bench, *COUNT)
    assert printed(bench, first) == "step 1\n"
    assert printed(bench, replace(first, attempt=2)) == "step 2\n"
    folder = bench.workloads().checkpoint_path(first.trial_uid)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_child_begins_with_a_copy_of_its_parents_and_does_not_touch_it(bench: Bench) -> None:
    parent = with_helper(bench, *COUNT)
    printed(bench, parent)
    child = replace(with_helper(bench, *COUNT), parent_uid=parent.trial_uid)
    assert printed(bench, child) == "step 2\n"
    assert printed(bench, replace(parent, attempt=2)) == "step 2\n"


def test_a_parent_without_checkpoints_is_told_and_is_no_obstacle(bench: Bench) -> None:
    orphan = replace(with_helper(bench, *COUNT), parent_uid="nobody")
    assert printed(bench, orphan) == "step 1\n"
    assert any("its parent has left none" in notice for notice in bench.notices)


def test_a_copy_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child" / "checkpoint"
    parent.mkdir()
    (parent / "weights").write_text("w")
    child.parent.mkdir()
    left = child.parent / ".checkpoint-killed"  # of a copy that a crash interrupted
    left.mkdir()
    (left / "weights").write_text("half")
    assert checkpoints.provide(child, parent)
    assert (child / "weights").read_text() == "w"
    assert list(child.parent.iterdir()) == [child]
    (child / "weights").write_text("mine")
    assert checkpoints.provide(child, parent)
    assert (child / "weights").read_text() == "mine"


def test_controllers_that_make_it_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    for k in range(20):
        (parent / f"weights-{k}").write_text(str(k))
    for attempt in range(10):
        child = tmp_path / f"trial-{attempt}" / "checkpoint"
        child.parent.mkdir()
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(checkpoints.provide, child, parent) for _ in range(8)]
        assert all(one.result() for one in made)
        assert list(child.parent.iterdir()) == [child] and len(list(child.iterdir())) == 20


def test_a_pipe_among_the_checkpoints_of_a_parent_is_not_copied(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    parent.mkdir()
    (parent / "weights").write_text("w")
    (parent / "last").symlink_to("weights")
    os.mkfifo(parent / "pipe")
    assert checkpoints.provide(child, parent)
    assert sorted(path.name for path in child.iterdir()) == ["last", "weights"]


def test_removing_a_trial_removes_its_checkpoints(bench: Bench) -> None:
    run = with_helper(bench, *COUNT)
    printed(bench, run)
    workloads = bench.workloads()
    folder = workloads.checkpoint_path(run.trial_uid)
    assert folder.is_dir()
    asyncio.run(workloads.remove(run.trial_uid))
    assert not folder.exists()


def test_a_program_that_looks_ends_by_itself_when_it_is_stopped(bench: Bench) -> None:
    text = (
        "import signal, time, pathlib, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "assert not t.should_stop()\n"
        "(t.checkpoint_dir() / 'ready').touch()\n"
        "while not t.should_stop(): time.sleep(0.02)\n"
        "print('saved and done')\n"
    )

    async def scenario() -> tuple[str, str]:
        workloads, run = bench.workloads(), with_helper(bench, *program(text))
        await running(workloads, run)
        ready = workloads.checkpoint_path(run.trial_uid) / "ready"
        while not ready.exists():
            await asyncio.sleep(0.01)
        await workloads.stop(run)
        reason = end_of(await ended(workloads, run))["reason"]
        return reason, bench.attempt(run).output.read_text()

    reason, output = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert (reason, output) == ("Stopped", "saved and done\n")


def test_each_attempt_writes_a_metrics_file_of_its_own(bench: Bench) -> None:
    declared = "/var/log/katib/metrics.log"
    script = f"echo loss=0.5 > {declared}; echo $TUNESMITH_METRICS_PATH; ls /var/log/katib"
    runs = [
        replace(bench.run(job_of("sh", "-c", script)), collector="File", metrics_path=declared)
        for _ in range(2)
    ]
    workloads = bench.workloads()
    for run in runs:
        output = printed(bench, run)
        target = workloads.metrics_target(run)
        assert target.read_text() == "loss=0.5\n"
        assert output == f"{target}\nmetrics.log\n"
    assert workloads.metrics_target(runs[0]) != workloads.metrics_target(runs[1])
    assert not Path(declared).exists()


def test_the_word_to_stop_is_there_before_the_signal(bench: Bench) -> None:
    script = (
        "trap 'test -e $TUNESMITH_STOP_FILE && echo told; exit 0' TERM; "
        f"echo up > {bench.folder}/up; while :; do sleep 0.05; done"
    )

    async def scenario() -> str:
        workloads, run = bench.workloads(), bench.run(job_of("sh", "-c", script))
        await workloads.ensure(run)
        await until_file(bench.folder / "up")
        await workloads.stop(run)
        await ended(workloads, run)
        return bench.attempt(run).output.read_text()

    assert "told\n" in asyncio.run(asyncio.wait_for(scenario(), 20))
