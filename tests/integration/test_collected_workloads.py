# SPDX-License-Identifier: Apache-2.0
"""Real programs, their files and a real log: which source counts with which collector kind, and
that a trial is named soon after rows of it were stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from local_attempts import Bench, bench_in

from tunesmith_api.metrics import summarise
from tunesmith_api.observations import SourceState
from tunesmith_controller.clock import SystemClock
from tunesmith_controller.ports import Key, TrialRun
from tunesmith_controller.workloads.collected import CollectedWorkloads
from tunesmith_controller.workloads.process import ProcessWorkloads
from tunesmith_controller.workloads.testing import is_over
from tunesmith_metrics_collector.collector import Timing
from tunesmith_metrics_collector.fleet import CollectorFleet
from tunesmith_observation.sql import SqlObservationLog

pytestmark = pytest.mark.integration

SECONDS = 30.0
PATH = "/var/log/katib/metrics.log"

# Prints, reports and writes the file; the last one, in a variable, is the test's.
PROGRAM = """
print("loss=1 accuracy=0.1", flush=True)
with open(os.environ["TUNESMITH_METRICS_FILE"], "a") as file:
    file.write('{"accuracy": 0.7}\\n')
target = open(folder + "/target").read()
os.makedirs(os.path.dirname(target), exist_ok=True)
"""


@dataclass(slots=True)
class World:
    """What a controller has of workloads, over one bench."""

    bench: Bench
    processes: ProcessWorkloads
    workloads: CollectedWorkloads
    log: SqlObservationLog

    async def collected(self, run: TrialRun) -> Mapping[str, SourceState]:
        """Runs an attempt to its end; its sources, once all have ended."""
        self.tell_target(run)
        await self.workloads.ensure(run)
        async with asyncio.timeout(SECONDS):
            while True:
                state = await self.workloads.observe(run)
                sources = await self.log.sources(run.trial_uid, run.attempt)
                if is_over(state) and sources and all(s.ended for s in sources.values()):
                    return sources
                await asyncio.sleep(0.02)

    def tell_target(self, run: TrialRun) -> None:
        (self.bench.folder / "target").write_text(str(self.processes.metrics_target(run)))

    async def latest(self, run: TrialRun) -> dict[str, str]:
        rows = await self.log.rows(run.trial_uid, run.attempt)
        return {s.name: s.latest for s in summarise(rows, ["loss", "accuracy"])}


@asynccontextmanager
async def world_on(bench: Bench) -> AsyncIterator[World]:
    log = SqlObservationLog.open(f"sqlite:///{bench.folder}/o.db")
    fleet = CollectorFleet(log, Timing(poll=0.05))
    processes = bench.workloads()
    try:
        yield World(bench, processes, CollectedWorkloads(processes, fleet), log)
    finally:
        await fleet.aclose()
        await log.aclose()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as made:
        yield made


def on(bench: Bench, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world_on(bench) as world:
            await scenario(world)

    asyncio.run(run())


def of_kind(run: TrialRun, kind: str, form: str = "TEXT") -> TrialRun:
    path = PATH if kind == "File" else ""
    metrics = ("loss", "accuracy")
    return replace(run, collector=kind, metrics=metrics, metrics_path=path, metrics_format=form)


WRITE_JSON = 'open(target, "w").write(\'{"loss": 3, "accuracy": "0.9"}\\n{"loss": 2}\')\n'


def test_of_kind_file_the_file_and_reports_count_and_prints_do_not(bench: Bench) -> None:
    async def scenario(world: World) -> None:
        run = of_kind(bench.python(PROGRAM + WRITE_JSON), "File", "JSON")
        assert sorted(await world.collected(run)) == ["file", "push"]
        assert await world.latest(run) == {"loss": "2", "accuracy": "0.7"}
        output = world.processes.output_path(run.trial_uid, 1)
        assert "loss=1" in output.read_text()

    on(bench, scenario)


def test_of_kind_stdout_what_is_printed_and_reported_counts(bench: Bench) -> None:
    async def scenario(world: World) -> None:
        run = of_kind(bench.python(PROGRAM + WRITE_JSON), "StdOut")
        assert sorted(await world.collected(run)) == ["push", "stdout"]
        assert await world.latest(run) == {"loss": "1", "accuracy": "0.7"}

    on(bench, scenario)


def test_of_kind_push_only_reports_count(bench: Bench) -> None:
    async def scenario(world: World) -> None:
        run = of_kind(bench.python(PROGRAM), "Push")
        assert sorted(await world.collected(run)) == ["push"]
        assert await world.latest(run) == {"accuracy": "0.7"}

    on(bench, scenario)


def test_a_file_that_was_never_written_is_named_as_the_user_knows_it(bench: Bench) -> None:
    async def scenario(world: World) -> None:
        run = of_kind(bench.python(PROGRAM), "File")
        notes = (await world.collected(run))["file"].notes
        assert notes.last_lines == (f"[tunesmith] the file {PATH} was never written",)

    on(bench, scenario)


STREAMING = """
for step in range(3):
    print(f"loss={step}", flush=True)
    while not os.path.exists(f"{folder}/step-{step}"):
        time.sleep(0.01)
"""


async def named(changes: AsyncIterator[Key], trial: Key) -> None:
    async with asyncio.timeout(SECONDS):
        while await anext(changes) != trial:
            pass


def test_a_running_trial_is_named_after_each_stored_row(bench: Bench) -> None:
    async def scenario(world: World) -> None:
        run = of_kind(bench.python(STREAMING), "StdOut")
        changes = world.workloads.changed()
        await world.workloads.ensure(run)
        await named(changes, run.trial)  # it has started
        await world.workloads.observe(run)
        for step in range(3):
            while (await world.latest(run)).get("loss") != str(step):
                await named(changes, run.trial)
            (bench.folder / f"step-{step}").touch()
        await world.collected(run)
        await changes.aclose()  # type: ignore[attr-defined]

    on(bench, scenario)


def test_an_end_of_the_process_hints_is_no_silence(bench: Bench) -> None:
    class Failing(ProcessWorkloads):
        async def changed(self) -> AsyncIterator[Key]:
            yield Key("Trial", "default", "one")
            raise LookupError("looking failed")

    async def scenario(world: World) -> None:
        failing = Failing(bench.root, clock=SystemClock())
        changes = CollectedWorkloads(failing, CollectorFleet(world.log)).changed()
        assert (await anext(changes)).name == "one"
        with pytest.raises(LookupError):
            await asyncio.wait_for(anext(changes), SECONDS)

    on(bench, scenario)
