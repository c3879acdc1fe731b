# SPDX-License-Identifier: Apache-2.0
"""The fault proxy: what a call does, what its caller hears, and what a dead life cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from faults import Fault, FaultPlan, Kind, Place
from in_process_suggestions import InProcessSuggestions, StaticHost
from lives import Life, Surroundings, at_once
from memory_observations import MemoryObservationLog
from scripted_workloads import ScriptedWorkloads
from stopping_rules import CeilingRules
from virtual_loop import SeededRng, VirtualClock, run

from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.ports import (
    AlreadyExists,
    Change,
    Conflict,
    Expired,
    Json,
    Key,
    NotFound,
    PortError,
    Ports,
    TrialRun,
    Unavailable,
)
from tunesmith_controller.stores.memory import MemoryStore

A = Key("Note", "default", "a")
Use = Callable[[Ports], Awaitable[object]]


def note(name: str = "a", text: str = "") -> Json:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Note", "metadata": metadata, "status": {"text": text}}


class Rig:
    """A world of memory and the lives that use it, one after the other."""

    def __init__(self, *faults: Fault) -> None:
        self.store = MemoryStore(VirtualClock(), SeededRng(0))
        self.plan = FaultPlan(faults)
        self.workloads = ScriptedWorkloads()
        self.happened: list[Fault] = []
        self.heard: list[object] = []
        self._lives = 0

    def world(self) -> Ports:
        return Ports(
            self.store,
            self.workloads,
            StaticHost(),
            InProcessSuggestions(),
            MemoryObservationLog(),
            VirtualClock(),
            SeededRng(0),
            RememberedEvents(),
            CeilingRules(),
        )

    async def live(self, use: Use, seconds: float = 60) -> Life:
        """One life that uses its ports until it ends, crashes or has had its time."""
        self._lives += 1
        life = Life(self._lives, Surroundings(self.plan, happen=self.happened.append))
        life.start(self._hear(use, life.ports(self.world())))
        over = asyncio.ensure_future(life.is_over.wait())
        await asyncio.wait({over}, timeout=seconds)
        over.cancel()
        life.kill()
        assert await life.ended() == []
        return life

    async def _hear(self, use: Use, ports: Ports) -> None:
        try:
            self.heard.append(await use(ports))
        except PortError as error:
            self.heard.append(type(error))

    def names(self) -> list[str]:
        listed = at_once(self.store.list("Note"))
        return [obj["metadata"]["name"] for obj in listed.items]

    def play(self, *uses: Use) -> Rig:
        """Each use is a life of its own."""

        async def all_lives() -> None:
            for use in uses:
                await self.live(use)

        run(all_lives())
        return self


async def create_a(ports: Ports) -> str:
    await ports.store.create(note())
    return "created"


async def create_a_and_b(ports: Ports) -> str:
    await ports.store.create(note())
    await ports.store.create(note("b"))
    return "both"


def test_without_faults_calls_pass_and_are_numbered() -> None:
    rig = Rig().play(create_a_and_b)
    assert rig.heard == ["both"]
    assert [(s.number, s.method, s.subject) for s in rig.plan.steps] == [
        (1, "create", "Note/a"),
        (2, "create", "Note/b"),
    ]


@pytest.mark.parametrize(
    ("place", "there"), [(Place.BEFORE, []), (Place.LOST, ["a"])], ids=["before", "lost"]
)
def test_an_error_is_heard_whether_or_not_the_call_took_effect(
    place: Place, there: list[str]
) -> None:
    rig = Rig(Fault(1, Kind.ERROR, place)).play(create_a)
    assert rig.heard == [Unavailable]
    assert rig.names() == there


@pytest.mark.parametrize(
    ("place", "there"),
    [(Place.BEFORE, ["a"]), (Place.LOST, ["a", "b"]), (Place.AFTER, ["a", "b"])],
    ids=["before", "lost", "after"],
)
def test_a_crash_ends_the_life_at_its_place(place: Place, there: list[str]) -> None:
    async def three(ports: Ports) -> None:
        for name in ("a", "b", "c"):
            await ports.store.create(note(name))

    rig = Rig(Fault(2, Kind.CRASH, place)).play(three)
    assert rig.heard == []
    assert rig.names() == there


def test_a_reply_that_is_lost_may_be_a_refusal() -> None:
    async def get(ports: Ports) -> Json:
        return await ports.store.get(A)

    assert Rig().play(get).heard == [NotFound]
    assert Rig(Fault(1, Kind.ERROR, Place.LOST)).play(get).heard == [Unavailable]


def test_nothing_that_a_dead_life_does_on_its_way_out_reaches_a_port() -> None:
    async def clean_up_by_writing(ports: Ports) -> None:
        try:
            await ports.store.create(note())
        finally:
            await ports.store.create(note("clean-up"))

    rig = Rig(Fault(1, Kind.CRASH, Place.LOST)).play(clean_up_by_writing)
    assert rig.names() == ["a"]


def test_tasks_of_tasks_die_with_their_life() -> None:
    async def spawn(ports: Ports) -> None:
        async def later(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            await ports.store.create(note(name))

        async def nested() -> None:
            await asyncio.gather(later("early", 1), later("late", 3))

        tasks = [asyncio.ensure_future(nested()), asyncio.ensure_future(later("crash", 2))]
        await asyncio.wait(tasks)

    rig = Rig(Fault(2, Kind.CRASH)).play(spawn)
    assert rig.names() == ["early"]


def test_the_next_life_goes_on_with_the_world_as_it_is() -> None:
    rig = Rig(Fault(1, Kind.CRASH, Place.LOST)).play(create_a, create_a)
    assert rig.heard == [AlreadyExists]
    assert [step.life for step in rig.plan.steps] == [1, 2]


def test_a_conflict_waits_for_a_write_that_can_have_one() -> None:
    async def create_and_write(ports: Ports) -> None:
        created = await ports.store.create(note())
        await ports.store.get(A)
        await ports.store.update_status({**created, "status": {"text": "new"}})

    rig = Rig(Fault(1, Kind.CONFLICT)).play(create_and_write)
    assert rig.heard == [Conflict]
    assert [step.number for _, step in rig.plan.fired] == [3]


def test_a_delay_holds_a_call_back() -> None:
    async def create_both(ports: Ports) -> None:
        await asyncio.gather(ports.store.create(note()), ports.store.create(note("b")))

    async def time_of_both() -> list[str]:
        rig = Rig(Fault(1, Kind.DELAY, seconds=5))
        await rig.live(create_both)
        times = [at_once(rig.store.get(Key("Note", "default", n))) for n in ("a", "b")]
        return [obj["metadata"]["creationTimestamp"][-3:] for obj in times]

    assert run(time_of_both()) == ["05Z", "00Z"]


def test_a_duplicate_is_delivered_twice_and_answered_once() -> None:
    calls: list[str] = []

    class Counted(StaticHost):
        async def validate(self, endpoint: object, problem: object) -> list[str]:
            calls.append("validate")
            return []

    async def twice() -> object:
        plan = FaultPlan([Fault(1, Kind.DUPLICATE)])
        life = Life(1, Surroundings(plan))
        return await life.call("suggestions", "validate", lambda: Counted().validate(0, 0), "")

    assert run(twice()) == []
    assert calls == ["validate", "validate"]


# ---- streams ------------------------------------------------------------------------------------


async def _watched(rig: Rig, seconds: float = 60) -> list[object]:
    """What a life hears of a note that is created one second later."""
    heard: list[object] = []

    async def watch(ports: Ports) -> None:
        try:
            async for event in ports.store.watch("Note"):
                if event.change is not Change.BOOKMARK:
                    heard.append((event.change.value, asyncio.get_running_loop().time()))
        except PortError as error:
            heard.append(type(error))

    asyncio.get_running_loop().call_later(1, lambda: at_once(rig.store.create(note())))
    await rig.live(watch, seconds)
    return heard


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (None, [("ADDED", 1.0)]),
        (Fault(3, Kind.DROP), [Unavailable]),
        (Fault(3, Kind.EXPIRE), [Expired]),
        (Fault(3, Kind.DELAY, seconds=7), [("ADDED", 8.0)]),
        (Fault(1, Kind.ERROR), [Unavailable]),
        (Fault(1, Kind.CRASH), []),
    ],
    ids=["undisturbed", "drop", "expired", "lag", "refused", "crash"],
)
def test_a_watch_tells_fails_lags_or_dies(fault: Fault | None, heard: list[object]) -> None:
    faults = () if fault is None else (fault,)
    assert run(_watched(Rig(*faults))) == heard


def test_hints_of_workloads_can_be_dropped() -> None:
    trial = TrialRun(Key("Trial", "default", "t"), "uid-t", 1, {}, "main")

    async def start_and_listen(ports: Ports) -> Key:
        hints = ports.workloads.changed()
        first = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(1)
        await ports.workloads.ensure(trial)
        return await first

    assert Rig().play(start_and_listen).heard == [trial.trial]
    assert Rig(Fault(1, Kind.DROP)).play(start_and_listen).heard == [Unavailable]


def test_the_world_suffers_at_a_step_and_the_call_passes() -> None:
    fault = Fault(1, Kind.FORGET)
    rig = Rig(fault).play(create_a)
    assert (rig.happened, rig.heard) == ([fault], ["created"])


def test_a_port_that_waits_is_not_a_port_of_this_world() -> None:
    async def wait() -> None:
        await asyncio.sleep(1)

    with pytest.raises(TypeError, match="waits for"):
        run(Life(1, Surroundings(FaultPlan())).call("host", "ensure", wait, ""))


def test_equal_moments_are_named_alike() -> None:
    """Two reads in a row see the same world, so crashing at either is the same crash."""

    async def read_twice_then_write(ports: Ports) -> None:
        await ports.store.list("Note")
        await ports.store.list("Note")
        await ports.store.create(note())

    effects: list[str] = []

    async def play() -> FaultPlan:
        plan = FaultPlan()
        around = Surroundings(
            plan,
            applied=lambda port, method, result: effects.extend([method] * (method == "create")),
            moment=lambda: len(effects),
        )
        life = Life(1, around)
        await life.start(read_twice_then_write(life.ports(Rig().world())))
        return plan

    moments = run(play()).moments
    assert {moments[n, place] for n in (1, 2) for place in Place} == {0}
    assert (moments[3, Place.BEFORE], moments[3, Place.LOST]) == (0, 1)
