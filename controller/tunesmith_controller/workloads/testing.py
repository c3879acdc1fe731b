# SPDX-License-Identifier: Apache-2.0
"""The contract suite of the `Workloads` port, for whoever writes an adapter.

Subclass `WorkloadsContract` as a pytest class (`class TestMine(WorkloadsContract)`), fill in the
methods that raise, and pytest runs the rest. The suite needs no plugin: each test is one
`asyncio.run`. It asserts what reconcilers rely on and nothing that only one adapter could give.
"""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from tunesmith_controller.ports import (
    Invalid,
    JobAbsent,
    JobLost,
    JobPresent,
    JobState,
    JobWaiting,
    Key,
    TrialRun,
    Unavailable,
    Workloads,
)

__all__ = [
    "WorkloadsContract",
    "has_failed",
    "has_succeeded",
    "is_over",
    "is_running",
    "until",
]

Check = Callable[[JobState], bool]


def is_running(state: JobState) -> bool:
    """Started, and neither succeeded nor failed."""
    return isinstance(state, JobPresent) and not is_over(state)


def is_over(state: JobState) -> bool:
    """A job that has succeeded or failed, or is lost."""
    return isinstance(state, JobLost) or has_succeeded(state) or has_failed(state)


def has_succeeded(state: JobState) -> bool:
    return "Complete" in _true_conditions(state)


def has_failed(state: JobState) -> bool:
    return "Failed" in _true_conditions(state)


def _true_conditions(state: JobState) -> list[str]:
    if not isinstance(state, JobPresent):
        return []
    conditions = state.manifest.get("status", {}).get("conditions", [])
    return [entry["type"] for entry in conditions if entry["status"] == "True"]


async def until(workloads: Workloads, run: TrialRun, check: Check, seconds: float) -> JobState:
    """Observes until `check` holds; AssertionError with the last state after `seconds`."""
    state: JobState = JobAbsent()
    try:
        async with asyncio.timeout(seconds):
            while not check(state := await workloads.observe(run)):
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; the last state is {state}") from None
    return state


class WorkloadsContract:
    """Each test gets a fresh instance; `open` may keep what survives a controller on `self`."""

    seconds = 20.0
    """How long the adapter may take to start or end a small run."""

    def open(self) -> Workloads:
        """The port as a controller that has just started sees it, over the same durable state."""
        raise NotImplementedError

    def succeeding(self) -> TrialRun:
        """A run that ends by itself, soon and well. Never one that was given before."""
        raise NotImplementedError

    def failing(self) -> TrialRun:
        """A run that ends by itself, soon and badly."""
        raise NotImplementedError

    def unending(self) -> TrialRun:
        """A run that ends when `finish` says so."""
        raise NotImplementedError

    def impossible(self) -> TrialRun:
        """A run that this adapter can never start."""
        raise NotImplementedError

    async def finish(self, run: TrialRun) -> None:
        """Lets an unending run that has started end well."""
        raise NotImplementedError

    def starts(self, run: TrialRun) -> int:
        """How often programs of the run's trial were started, as they or the outside count it."""
        raise NotImplementedError

    # ---- what reconcilers rely on ----

    def test_what_was_never_ensured_is_absent(self) -> None:
        async def scenario() -> JobState:
            return await self.open().observe(self.succeeding())

        assert asyncio.run(scenario()) == JobAbsent()

    def test_a_run_that_ends_well_becomes_complete(self) -> None:
        run = self.succeeding()
        state = asyncio.run(self._ended(run))
        assert isinstance(state, JobPresent)
        assert has_succeeded(state)
        assert not has_failed(state)
        assert self.starts(run) == 1

    def test_a_run_that_ends_badly_becomes_failed_with_a_message(self) -> None:
        state = asyncio.run(self._ended(self.failing()))
        assert isinstance(state, JobPresent)
        assert not has_succeeded(state)
        [failed] = [c for c in state.manifest["status"]["conditions"] if c["type"] == "Failed"]
        assert failed["message"]

    def test_a_job_keeps_the_spec_it_was_given_and_its_uid(self) -> None:
        run = self.succeeding()
        state = asyncio.run(self._ended(run))
        assert isinstance(state, JobPresent)
        assert state.manifest["spec"] == run.spec["spec"]
        assert state.manifest["metadata"]["namespace"] == run.trial.namespace
        assert state.manifest["metadata"]["uid"] == state.uid

    def test_a_running_job_has_no_end_and_is_active(self) -> None:
        run = self.unending()

        async def scenario() -> JobState:
            workloads = await self._running(run)
            state = await workloads.observe(run)
            await self._finished(workloads, run)
            return state

        state = asyncio.run(scenario())
        assert isinstance(state, JobPresent)
        assert is_running(state)
        assert state.manifest["status"]["active"] == 1

    def test_ensuring_again_starts_nothing_and_keeps_the_uid(self) -> None:
        run = self.unending()

        async def scenario() -> set[str]:
            workloads = await self._running(run)
            states = [await workloads.ensure(run) for _ in range(3)]
            states.append(await self._finished(workloads, run))
            states.append(await workloads.ensure(run))
            return {state.uid for state in states if isinstance(state, JobPresent)}

        assert len(asyncio.run(scenario())) == 1
        assert self.starts(run) == 1

    def test_many_at_once_from_two_controllers_start_one_program(self) -> None:
        run = self.succeeding()

        async def scenario() -> None:
            first, second = self.open(), self.open()
            await asyncio.gather(*(each.ensure(run) for each in [first, second] * 10))
            await until(first, run, is_over, self.seconds)
            await until(second, run, is_over, self.seconds)

        asyncio.run(scenario())
        assert self.starts(run) == 1

    def test_a_new_controller_sees_what_runs_and_how_it_ended(self) -> None:
        run = self.unending()

        async def scenario() -> tuple[JobState, JobState]:
            await self._running(run)
            running = await until(self.open(), run, is_running, self.seconds)
            await self._finished(self.open(), run)
            return running, await self.open().observe(run)

        running, ended = asyncio.run(scenario())
        assert isinstance(running, JobPresent)
        assert isinstance(ended, JobPresent)
        assert has_succeeded(ended)
        assert running.uid == ended.uid

    def test_stopping_ends_a_run_and_says_so(self) -> None:
        run = self.unending()

        async def scenario() -> JobState:
            workloads = await self._running(run)
            await workloads.stop(run)
            await workloads.stop(run)
            state = await until(workloads, run, is_over, self.seconds)
            await workloads.ensure(run)
            return state

        assert not has_succeeded(asyncio.run(scenario()))
        assert self.starts(run) <= 1  # it may be stopped before its first line

    def test_stopping_before_the_start_forbids_the_start(self) -> None:
        run = self.succeeding()

        async def scenario() -> JobState:
            workloads = self.open()
            await workloads.stop(run)
            await workloads.ensure(run)
            return await until(self.open(), run, _will_not_start, self.seconds)

        assert not has_succeeded(asyncio.run(scenario()))
        assert self.starts(run) == 0

    def test_stopping_what_has_ended_changes_nothing(self) -> None:
        run = self.succeeding()

        async def scenario() -> JobState:
            await self._ended(run)
            workloads = self.open()
            await workloads.stop(run)
            return await workloads.observe(run)

        assert has_succeeded(asyncio.run(scenario()))

    def test_attempts_of_a_trial_are_separate(self) -> None:
        first = self.succeeding()
        again = replace(first, attempt=first.attempt + 1)

        async def scenario() -> tuple[JobState, JobState, JobState]:
            ended = await self._ended(first)
            return ended, await self.open().observe(again), await self._ended(again)

        ended, before, after = asyncio.run(scenario())
        assert isinstance(ended, JobPresent)
        assert before == JobAbsent()
        assert isinstance(after, JobPresent)
        assert ended.uid != after.uid
        assert self.starts(first) == 2

    def test_what_can_never_start_is_refused_with_a_sentence(self) -> None:
        run = self.impossible()

        async def scenario() -> str:
            try:
                await self.open().ensure(run)
            except Invalid as refusal:
                return str(refusal)
            raise AssertionError("it was accepted")

        assert len(asyncio.run(scenario()).split()) > 3
        assert self.starts(run) == 0

    def test_the_end_of_a_run_is_announced(self) -> None:
        run = self.unending()

        async def scenario() -> None:
            workloads = await self._running(run)
            changes = workloads.changed()
            waiting = asyncio.ensure_future(_next_over(workloads, changes, run))
            await asyncio.sleep(0)
            await self.finish(run)
            await asyncio.wait_for(waiting, self.seconds)

        asyncio.run(scenario())

    def test_release_of_an_ended_run_can_be_repeated(self) -> None:
        run = self.succeeding()

        async def scenario() -> None:
            await self._ended(run)
            workloads = self.open()
            await workloads.release(run)
            await workloads.release(run)

        asyncio.run(scenario())
        assert self.starts(run) == 1

    def test_removing_an_ended_trial_can_be_repeated(self) -> None:
        run = self.succeeding()

        async def scenario() -> None:
            await self._ended(run)
            workloads = self.open()
            await workloads.remove(run.trial_uid)
            await workloads.remove(run.trial_uid)

        asyncio.run(scenario())
        assert self.starts(run) == 1

    def test_removing_a_trial_that_runs_is_put_off_and_harms_nothing(self) -> None:
        run = self.unending()

        async def scenario() -> JobState:
            workloads = await self._running(run)
            try:
                await workloads.remove(run.trial_uid)
            except Unavailable:
                return await self._finished(workloads, run)
            raise AssertionError("what runs was removed")

        assert has_succeeded(asyncio.run(scenario()))

    # ---- steps ----

    async def _running(self, run: TrialRun) -> Workloads:
        workloads = self.open()
        await workloads.ensure(run)
        await until(workloads, run, is_running, self.seconds)
        return workloads

    async def _ended(self, run: TrialRun) -> JobState:
        workloads = self.open()
        await workloads.ensure(run)
        return await until(workloads, run, is_over, self.seconds)

    async def _finished(self, workloads: Workloads, run: TrialRun) -> JobState:
        await self.finish(run)
        return await until(workloads, run, is_over, self.seconds)


def _will_not_start(state: JobState) -> bool:
    return not isinstance(state, JobWaiting) and not is_running(state)


async def _next_over(workloads: Workloads, changes: AsyncIterator[Key], run: TrialRun) -> None:
    """Returns when a hint about the trial comes after which the run is seen to be over."""
    async for key in changes:
        if key == run.trial and is_over(await workloads.observe(run)):
            return
