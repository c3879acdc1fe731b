# SPDX-License-Identifier: Apache-2.0
"""The harness must be able to fail: each planted bug is found, under the rule that it breaks.

A bug is planted in a durable port (`tamper`) or in front of a controller's own (`controller`), and
has to show within a few random schedules.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from faults import Fault, Kind, Place
from scenarios import Scenario
from schedules import check, schedule
from scripted_workloads import ScriptedWorkloads
from world import SETTINGS, Controller, Setting, Tamper, managed

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, ObservationLog, Report, SourceState
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import (
    AlreadyExists,
    Ask,
    Endpoint,
    Expired,
    JobAbsent,
    JobLost,
    JobState,
    Json,
    ObjectStore,
    Ports,
    SearchEnded,
    Suggested,
    SuggestionClient,
    TrialRun,
    Unavailable,
    WatchEvent,
    Workloads,
)

SCHEDULES = 60


class Over:
    """A port with some methods replaced by those of a subclass."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class StartsAgain(Over):
    """Starts a job whenever it is told to."""

    async def ensure(self, run: TrialRun) -> JobState:
        scripted = cast(ScriptedWorkloads, self.real)
        if (run.trial_uid, run.attempt) in scripted.active():
            scripted.vanish(run.trial_uid, run.attempt)
        return await scripted.ensure(run)


class KnowsItsOwn(Over):
    """Remembers in memory which jobs there are."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.known: set[tuple[str, int]] = set()

    async def observe(self, run: TrialRun) -> JobState:
        if (run.trial_uid, run.attempt) not in self.known:
            return JobAbsent()
        return await cast(Workloads, self.real).observe(run)

    async def ensure(self, run: TrialRun) -> JobState:
        self.known.add((run.trial_uid, run.attempt))
        return await cast(Workloads, self.real).ensure(run)


class RestartsTheLost(Over):
    """Runs a job that is lost again, without a new attempt."""

    async def observe(self, run: TrialRun) -> JobState:
        scripted = cast(ScriptedWorkloads, self.real)
        state = await scripted.observe(run)
        if not isinstance(state, JobLost):
            return state
        scripted.vanish(run.trial_uid, run.attempt)
        return await scripted.ensure(run)


class CreatesUnderAnotherName(Over):
    """Takes AlreadyExists for a clash of names."""

    async def create(self, obj: Json) -> Json:
        try:
            return cast(Json, await self.real.create(obj))
        except AlreadyExists:
            metadata = {**obj["metadata"], "name": obj["metadata"]["name"] + "-again"}
            return cast(Json, await self.real.create({**obj, "metadata": metadata}))


class LastWriteWins(Over):
    """Ignores resourceVersion when a status is written."""

    async def update_status(self, obj: Json) -> Json:
        metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
        return cast(Json, await self.real.update_status({**obj, "metadata": metadata}))


class AsksOtherwise(Over):
    """Tells less when it asks again."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.asked: Counter[str] = Counter()

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded:
        self.asked[ask.request_id] += 1
        if self.asked[ask.request_id] > 1:
            ask = replace(ask, history=replace(ask.history, outcomes=ask.history.outcomes[:-1]))
        return cast("Suggested | SearchEnded", await self.real.suggest(endpoint, ask))


class CountsCalls(Over):
    """Draws points in the order of the calls, as a generator in memory does."""

    calls = 0

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded:
        self.calls += 1
        problem = replace(ask.problem, seed=ask.problem.seed + self.calls)
        real: SuggestionClient = self.real.unchecked()
        return await real.suggest(endpoint, replace(ask, problem=problem))


class OneAttempt(Over):
    """Keeps rows by trial alone, and fences nobody."""

    async def append(self, report: Report) -> Acknowledged:
        log = cast(ObservationLog, self.real)
        rows = [replace(row, seq=row.seq + 1000 * report.key.attempt) for row in report.rows]
        return await log.append(replace(report, key=replace(report.key, attempt=1), rows=rows))

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        return await cast(ObservationLog, self.real).sources(trial_uid, 1)

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        return await cast(ObservationLog, self.real).rows(trial_uid, 1, metric=metric)

    async def fence(self, trial_uid: str, attempt: int) -> None:
        """Nothing."""


class NeverEnds(Over):
    """Loses the word that no more rows will come."""

    async def append(self, report: Report) -> Acknowledged:
        return await cast(ObservationLog, self.real).append(replace(report, ended=False))


class NoRelist(Over):
    """Goes on from now when a watch breaks, without looking at what it missed."""

    async def watch(self, kind: str, *, resource_version: str = "") -> AsyncIterator[WatchEvent]:
        while True:
            try:
                async for event in self.real.watch(kind, resource_version=resource_version):
                    yield event
            except (Expired, Unavailable):
                await asyncio.sleep(5)
                resource_version = (await self.real.list(kind)).resource_version


# ---- the bugs -----------------------------------------------------------------------------------


def tampered(**planted: Callable[[Any], Over]) -> Tamper:
    """Puts bugs over durable ports, by name."""
    return lambda ports: replace(
        ports, **cast(Any, {name: bug(getattr(ports, name)) for name, bug in planted.items()})
    )


def without_relist(ports: Ports) -> Coroutine[Any, Any, None]:
    return managed(replace(ports, store=cast(ObjectStore, NoRelist(ports.store))))


def knowing_its_own(ports: Ports) -> Coroutine[Any, Any, None]:
    return managed(replace(ports, workloads=cast(Workloads, KnowsItsOwn(ports.workloads))))


def without_grace(ports: Ports) -> Coroutine[Any, Any, None]:
    return Manager(ports, replace(SETTINGS, metrics_grace_s=1e9)).run()


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug, the rules that it breaks, and the kinds of faults that bring it out."""

    rules: frozenset[str]
    tamper: Tamper = lambda ports: ports
    controller: Controller = managed
    kinds: tuple[Kind, ...] = (Kind.ERROR, Kind.CRASH)


BUGS = {
    "an attempt is started twice": Bug(
        frozenset({"G1"}), tampered(workloads=StartsAgain), knowing_its_own
    ),
    "a lost job is silently run again": Bug(
        frozenset({"G1"}), tampered(workloads=RestartsTheLost), kinds=(Kind.LOSE_JOB,)
    ),
    "a create that is repeated makes a second object": Bug(
        frozenset({"G1", "G2"}), tampered(store=CreatesUnderAnotherName)
    ),
    "the last write wins": Bug(frozenset({"G3", "G10", "G2", "G1"}), tampered(store=LastWriteWins)),
    "a question is repeated with other inputs": Bug(
        frozenset({"G9"}), tampered(suggestions=AsksOtherwise), kinds=(Kind.DUPLICATE,)
    ),
    "a service counts calls": Bug(frozenset({"G3"}), tampered(suggestions=CountsCalls)),
    "rows have no attempt": Bug(
        frozenset({"G1", "G3"}), tampered(observations=OneAttempt), kinds=(Kind.LOSE_JOB,)
    ),
    "rows are waited for without end": Bug(
        frozenset({"G5"}), tampered(observations=NeverEnds), without_grace, kinds=()
    ),
    "a broken watch is not followed by a list": Bug(
        frozenset({"G5"}), controller=without_relist, kinds=(Kind.DROP, Kind.EXPIRE)
    ),
}


def found(bug: Bug) -> str | None:
    """The first rule that is seen broken in a few schedules."""
    for seed in range(SCHEDULES):
        setting = schedule(seed)
        faults = tuple(f for f in setting.faults if f.kind in bug.kinds)
        planted = replace(setting, faults=faults, tamper=bug.tamper, controller=bug.controller)
        if violations := check(planted).violations:
            return violations[0].rule
    return None


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert found(BUGS[name]) in BUGS[name].rules


def test_without_a_bug_the_same_schedules_break_no_rule() -> None:
    assert found(Bug(frozenset(), kinds=tuple(Kind))) is None


def test_a_crash_finds_a_second_start_at_its_very_call() -> None:
    """The enumeration of crash points alone finds what it is for."""
    scenario = Scenario(2)
    quiet = check(Setting(scenario)).report
    first = next(
        step.number
        for step in quiet.plan.steps
        if step.subject.endswith("attempt 1") and step.method == "ensure"
    )
    fault = Fault(first, Kind.CRASH, Place.LOST)
    bug = BUGS["an attempt is started twice"]
    setting = Setting(scenario, (fault,), tamper=bug.tamper, controller=bug.controller)
    assert [v.rule for v in check(setting).violations][:1] == ["G1"]
