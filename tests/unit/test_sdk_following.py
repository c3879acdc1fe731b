# SPDX-License-Identifier: Apache-2.0
"""Running and following over a real store; a controller of the test's own does the trials' part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import given
import pytest
import written

from tunesmith import experiment_source, following
from tunesmith.access import LocalAccess
from tunesmith.errors import ChangedExperiment, StateUnusable, TunesmithError
from tunesmith.follower import Interrupt, Wish
from tunesmith.following import RunRequest, RunResult
from tunesmith.mirror import Mirror, mirrored
from tunesmith.views import ExperimentView, TrialView
from tunesmith_api import names
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Key, ObjectStore, Unavailable, WatchEvent
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.trial.decide import PAUSED

KEY = Key("Experiment", "team", "quick")


class ScriptedPlane(LocalPlane):
    """A state directory whose controller is `script`; without one it waits for ever."""

    script: Callable[[ObjectStore], Awaitable[None]] | None = None

    async def control(self, *, notice: Callable[[str], None] = lambda sentence: None) -> None:
        if self.script is not None:
            await self.script(self.store)
        await asyncio.Event().wait()


@asynccontextmanager
async def plane_in(home: Path) -> AsyncIterator[ScriptedPlane]:
    async with ScriptedPlane.open(home) as plane:
        assert isinstance(plane, ScriptedPlane)
        yield plane


def request(**changes: Any) -> RunRequest:
    """Of `written.experiment()` with changes to its spec; `fresh` and callbacks go their way."""
    options = {
        name: changes.pop(name) for name in ("fresh", "on_update", "notice") & changes.keys()
    }
    source = written.experiment()
    source["spec"].update(changes)
    loaded = experiment_source.load(source, None, "default")
    return RunRequest(loaded.annotated(), **options)


async def store_trial(store: ObjectStore, owner_uid: str, ordinal: int, state: str) -> Json:
    trial = given.trial(ordinal, state, loss=1.0 if state == "Succeeded" else None).json()
    metadata = trial["metadata"]
    for assigned in ("uid", "resourceVersion", "finalizers"):
        metadata.pop(assigned)
    metadata["namespace"] = "team"
    metadata["ownerReferences"][0]["uid"] = owner_uid
    trial["status"]["run"]["released"] = state == "Succeeded"
    return await store.create(trial)


async def set_status(store: ObjectStore, key: Key, **status: Any) -> None:
    await store.patch(key, {"status": status}, status=True)


async def finish(store: ObjectStore) -> None:
    uid = (await store.get(KEY))["metadata"]["uid"]
    await store_trial(store, uid, 0, "Succeeded")
    await set_status(store, KEY, conditions=given.conditions("Created", "Succeeded"))


async def run(
    plane: LocalPlane, asked: RunRequest, interrupt: Interrupt | None = None
) -> RunResult:
    async with asyncio.timeout(20):
        return await following.run(LocalAccess(plane.store, plane), asked, interrupt or Interrupt())


# ---- run ----------------------------------------------------------------------------------------


async def _finished(home: Path, **edited: Any) -> ScriptedPlane:
    async with plane_in(home) as plane:
        plane.script = finish
        await run(plane, request())
        if edited:
            await plane.store.patch(KEY, {"spec": edited})
        return plane


def test_a_run_tells_changes_and_returns_how_it_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        told: list[tuple[str, int]] = []
        begun = asyncio.Event()

        def seen(view: ExperimentView, trials: Sequence[TrialView]) -> None:
            told.append((view.state, len(trials)))
            begun.set()

        async def finish_later(store: ObjectStore) -> None:
            await begun.wait()
            await finish(store)

        async with plane_in(tmp_path) as plane:
            plane.script = finish_later
            result = await run(plane, request(on_update=seen))
        assert (result.experiment.state, len(result.trials)) == ("Succeeded", 1)
        assert (result.continued, result.wish) == (False, Wish.NONE)
        assert told[0] == ("Pending", 0) and told[-1] == ("Succeeded", 1)
        assert len(told) == len(set(told))

    asyncio.run(scenario())


def test_a_budget_edited_in_the_store_does_not_make_the_same_file_look_changed(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        await _finished(tmp_path, maxTrialCount=99)
        async with plane_in(tmp_path) as plane:
            assert (await run(plane, request())).continued

    asyncio.run(scenario())


def test_another_file_of_the_same_name_is_refused_with_the_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        await _finished(tmp_path)
        async with plane_in(tmp_path) as plane:
            with pytest.raises(ChangedExperiment) as caught:
                await run(plane, request(parallelTrialCount=7))
            assert "-parallelTrialCount: 3" in caught.value.diff
            assert "+parallelTrialCount: 7" in caught.value.diff
            assert "trialTemplate" not in caught.value.diff  # not the whole object

    asyncio.run(scenario())


def test_fresh_starts_anew_even_from_another_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        await _finished(tmp_path)
        async with plane_in(tmp_path) as plane:
            before = (await plane.store.get(KEY))["metadata"]["uid"]
            plane.script = _anew(before)
            result = await run(plane, request(parallelTrialCount=7, fresh=True))
            assert result.experiment.uid != before
            assert (result.continued, result.experiment.parallel) == (False, 7)

    asyncio.run(scenario())


def _anew(before: str) -> Callable[[ObjectStore], Awaitable[None]]:
    """Finishes every experiment but the one that is deleted first."""

    async def script(store: ObjectStore) -> None:
        found = await store.list("Experiment")
        if [obj["metadata"]["uid"] for obj in found.items] not in ([], [before]):
            await finish(store)

    return script


def test_stop_pauses_and_waits_until_nothing_runs_and_the_next_run_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plane_in(tmp_path) as plane:
            interrupt = Interrupt()
            plane.script = _pausable(interrupt)
            result = await run(plane, request(), interrupt)
            assert result.wish is Wish.STOP
            assert [trial.is_paused for trial in result.trials] == [True]
            assert (
                names.ANNOTATION_PAUSED in (await plane.store.get(KEY))["metadata"]["annotations"]
            )
            plane.script = finish_paused
            assert (await run(plane, request())).experiment.state == "Succeeded"
            stored = await plane.store.get(KEY)
            assert names.ANNOTATION_PAUSED not in stored["metadata"]["annotations"]

    asyncio.run(scenario())


def _pausable(interrupt: Interrupt) -> Callable[[ObjectStore], Awaitable[None]]:
    """Runs a trial, has a person interrupt, and stops the trial once the pause is stored."""

    async def script(store: ObjectStore) -> None:
        uid = (await store.get(KEY))["metadata"]["uid"]
        trial = await store_trial(store, uid, 0, "Running")
        interrupt.set(Wish.STOP)
        stream = store.watch("Experiment", namespace="team")
        async for event in stream:
            if names.ANNOTATION_PAUSED in event.object["metadata"].get("annotations", {}):
                break
        key = Key("Trial", "team", trial["metadata"]["name"])
        await set_status(store, key, run={"attempt": 2, "waiting": PAUSED})

    return script


async def finish_paused(store: ObjectStore) -> None:
    (trial,) = (await store.list("Trial")).items
    key = Key("Trial", "team", trial["metadata"]["name"])
    over = given.conditions("Created", "Running", "Succeeded")
    await set_status(store, key, conditions=over, run={"attempt": 2, "released": True})
    await set_status(store, KEY, conditions=given.conditions("Created", "Succeeded"))


def test_leave_returns_at_once_and_pauses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plane_in(tmp_path) as plane:
            interrupt = Interrupt()
            interrupt.set(Wish.LEAVE)  # before there is an event loop to wake
            result = await run(plane, request(), interrupt)
            assert (result.wish, result.experiment.paused) == (Wish.LEAVE, False)

    asyncio.run(scenario())


def test_a_second_interrupt_waits_no_longer_for_trials_that_are_stopping(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plane_in(tmp_path) as plane:
            interrupt = Interrupt()

            async def never_stops(store: ObjectStore) -> None:
                uid = (await store.get(KEY))["metadata"]["uid"]
                await store_trial(store, uid, 0, "Running")
                interrupt.set(Wish.STOP)
                async for event in store.watch("Experiment", namespace="team"):
                    if names.ANNOTATION_PAUSED in event.object["metadata"].get("annotations", {}):
                        interrupt.set(Wish.LEAVE)

            plane.script = never_stops
            result = await run(plane, request(), interrupt)
            assert result.wish is Wish.STOP
            assert [trial.is_paused for trial in result.trials] == [False]

    asyncio.run(scenario())


def test_a_wish_from_another_thread_arrives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with plane_in(tmp_path) as plane:
            interrupt = Interrupt()
            following_it = asyncio.ensure_future(run(plane, request(), interrupt))
            await asyncio.to_thread(interrupt.set, Wish.LEAVE)
            assert (await following_it).wish is Wish.LEAVE

    asyncio.run(scenario())


def test_a_controller_that_loses_its_disk_is_an_unusable_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def full(store: ObjectStore) -> None:
            raise Unavailable("observations.db: disk is full")

        async with plane_in(tmp_path) as plane:
            plane.script = full
            with pytest.raises(StateUnusable, match="disk is full"):
                await run(plane, request())

    asyncio.run(scenario())


def test_a_defect_of_the_controller_is_not_dressed_as_something_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def broken(store: ObjectStore) -> None:
            raise KeyError("attempt")

        async with plane_in(tmp_path) as plane:
            plane.script = broken
            with pytest.raises(KeyError):
                await run(plane, request())

    asyncio.run(scenario())


def test_an_experiment_deleted_under_a_run_ends_it_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def deletes(store: ObjectStore) -> None:
            await store.delete(KEY)

        async with plane_in(tmp_path) as plane:
            plane.script = deletes
            with pytest.raises(TunesmithError, match="was deleted meanwhile"):
                await run(plane, request())

    asyncio.run(scenario())


def test_whoever_controls_already_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        said: list[str] = []
        async with plane_in(tmp_path) as holder, plane_in(tmp_path) as plane:
            assert holder.lease.try_acquire()
            plane.script = finish
            await run(plane, request(notice=said.append))
            holder.lease.release()
        assert f"process {os.getpid()} runs the trials" in said[0]

    asyncio.run(scenario())


# ---- the mirror ---------------------------------------------------------------------------------


class Interrupted(SqliteStore):
    """A store whose first watches end after one event."""

    failures = 3

    async def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        stream = super().watch(kind, namespace=namespace, resource_version=resource_version)
        async for event in stream:
            yield event
            if self.failures:
                self.failures -= 1
                raise Unavailable("the watch broke")


@asynccontextmanager
async def mirror_in(
    folder: Path, made: Callable[..., SqliteStore] = SqliteStore
) -> AsyncIterator[tuple[SqliteStore, Mirror]]:
    store = made(folder / "objects.db", SystemClock(), SystemRng())
    try:
        stored = await store.create(_bare(given.experiment(namespace="team").json()))
        async with mirrored(store, KEY, stored["metadata"]["uid"]) as (mirror, _):
            yield store, mirror
    finally:
        await asyncio.to_thread(store.close)


def _bare(obj: Json) -> Json:
    obj["metadata"] = {name: obj["metadata"][name] for name in ("name", "namespace")}
    return obj


def uid_of(mirror: Mirror) -> str:
    view = mirror.experiment()
    assert view is not None
    return view.uid


async def until(mirror: Mirror, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            mirror.changed.clear()
            await mirror.changed.wait()


def test_a_mirror_follows_its_trials_and_reads_only_those_that_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mirror_in(tmp_path) as (store, mirror):
            for ordinal in (2, 0, 1):
                await store_trial(store, uid_of(mirror), ordinal, "Running")
            await until(mirror, lambda: mirror.trial_count == 3)
            before = mirror.trials()
            assert [trial.ordinal for trial in before] == [0, 1, 2]
            over = given.conditions("Created", "Failed")
            await set_status(store, Key("Trial", "team", before[1].name), conditions=over)
            await until(mirror, lambda: mirror.trials()[1].state == "Failed")
            assert [a is b for a, b in zip(before, mirror.trials(), strict=True)] == [
                True,
                False,
                True,
            ]
            await store.delete(Key("Trial", "team", before[0].name))
            await until(mirror, lambda: [t.ordinal for t in mirror.trials()] == [1, 2])

    asyncio.run(scenario())


def test_a_mirror_leaves_out_what_others_own_under_the_same_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mirror_in(tmp_path) as (store, mirror):
            await store_trial(store, "of-an-earlier-one", 5, "Running")
            await store_trial(store, uid_of(mirror), 6, "Running")
            await until(mirror, lambda: mirror.trial_count > 0)
            assert [trial.ordinal for trial in mirror.trials()] == [6]
            await store.delete(KEY)
            await until(mirror, lambda: mirror.experiment() is None)
            await store.create(_bare(given.experiment(namespace="team").json()))
            await mirror.refresh("Experiment")
            assert mirror.experiment() is None

    asyncio.run(scenario())


def test_a_mirror_survives_watches_that_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mirror_in(tmp_path, Interrupted) as (store, mirror):
            for ordinal in range(6):
                await store_trial(store, uid_of(mirror), ordinal, "Running")
            await until(mirror, lambda: len(mirror.trials()) == 6)

    asyncio.run(scenario())


def test_a_mirror_shows_trouble_of_the_suggestion_service(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with mirror_in(tmp_path) as (store, mirror):
            suggestion = given.suggestion().json()
            unready = {"type": "DeploymentReady", "status": "False", "message": "it was killed"}
            suggestion["status"]["conditions"] = [unready]
            metadata: Json = {"name": "quick", "namespace": "team"}
            owner = {"apiVersion": "v1", "kind": "Experiment", "name": "quick"}
            metadata["ownerReferences"] = [{**owner, "uid": uid_of(mirror)}]
            await store.create({**suggestion, "metadata": metadata})
            await until(mirror, lambda: _waiting(mirror) == "it was killed")

    asyncio.run(scenario())


def _waiting(mirror: Mirror) -> str:
    view = mirror.experiment()
    return "" if view is None else view.waiting


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({"maxTrialCount": 30}, "tunesmith extend quick --trials 30 -n team"),
        (
            {"maxTrialCount": 30, "parallelTrialCount": 5},
            "tunesmith extend quick --trials 30 --parallel 5 -n team",
        ),
        ({"maxTrialCount": 30, "maxFailedTrialCount": 9}, ""),
    ],
)
def test_a_file_with_only_another_budget_is_told_of_extend(
    change: dict[str, int], command: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        await _finished(tmp_path)
        async with plane_in(tmp_path) as plane:
            with pytest.raises(ChangedExperiment) as refused:
                await run(plane, request(**change))
        assert refused.value.hint.startswith(command or "start anew")

    asyncio.run(scenario())
