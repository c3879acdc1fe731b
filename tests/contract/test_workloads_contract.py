# SPDX-License-Identifier: Apache-2.0
"""Both adapters of the `Workloads` port through its contract suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_attempts import Bench, bench_in, job_of
from scripted_workloads import ScriptedWorkloads

from tunesmith_controller.ports import TrialRun, Workloads
from tunesmith_controller.workloads.testing import WorkloadsContract

# What the one container's command says of the scripted run.
SCRIPTS: dict[str, float | tuple[float, int] | None] = {
    "end well": 0.01,
    "end badly": (0.01, 3),
    "wait": None,
}


class TestProcessWorkloads(WorkloadsContract):
    @pytest.fixture(autouse=True)
    def bench_of_the_test(self, tmp_path: Path) -> Iterator[None]:
        with bench_in(tmp_path) as self.bench:
            yield

    def open(self) -> Workloads:
        return self.bench.workloads()

    def succeeding(self) -> TrialRun:
        return self.bench.shell("exit 0")

    def failing(self) -> TrialRun:
        return self.bench.shell("exit 3")

    def unending(self) -> TrialRun:
        return self.bench.waiting()

    def impossible(self) -> TrialRun:
        return self.bench.run(job_of("no-such-command-anywhere"))

    async def finish(self, run: TrialRun) -> None:
        self.bench.let_end(run)

    def starts(self, run: TrialRun) -> int:
        return self.bench.starts(run)


class TestScriptedWorkloads(WorkloadsContract):
    @pytest.fixture(autouse=True)
    def world_of_the_test(self, tmp_path: Path) -> None:
        self.bench = Bench(tmp_path)
        self.world = ScriptedWorkloads(
            lambda run: SCRIPTS[_script(run)],
            refusal=lambda run: None if _script(run) in SCRIPTS else "it is in no script of ours",
        )

    def open(self) -> Workloads:
        return self.world

    def succeeding(self) -> TrialRun:
        return self.bench.run(job_of("end well"))

    def failing(self) -> TrialRun:
        return self.bench.run(job_of("end badly"))

    def unending(self) -> TrialRun:
        return self.bench.run(job_of("wait"))

    def impossible(self) -> TrialRun:
        return self.bench.run(job_of("fly"))

    async def finish(self, run: TrialRun) -> None:
        self.world.finish(run.trial_uid, run.attempt)

    def starts(self, run: TrialRun) -> int:
        return [trial_uid for trial_uid, _ in self.world.starts].count(run.trial_uid)


def _script(run: TrialRun) -> str:
    [container] = run.spec["spec"]["template"]["spec"]["containers"]
    return str(container["command"][0])
