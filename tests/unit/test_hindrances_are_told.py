# SPDX-License-Identifier: Apache-2.0
"""What keeps a controller from its work is told to people, in time and not too often."""

from __future__ import annotations

import asyncio

import given
import virtual_loop
from deterministic import CountingRng, TickingClock
from small_world import ports_over

from tunesmith_controller.events import RememberedEvents, SpokenEvents
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import Json, Unavailable
from tunesmith_controller.stores.memory import MemoryStore


class FullStore(MemoryStore):
    """Takes nothing new while it is full."""

    full = False

    async def update_status(self, obj: Json) -> Json:
        if self.full:
            raise Unavailable("the disk is full")
        return await super().update_status(obj)


async def told_after(seconds: float) -> list[str]:
    """What a manager over a full store has told people."""
    store, events = FullStore(TickingClock(), CountingRng()), RememberedEvents()
    body = given.experiment().json()
    del body["metadata"]["resourceVersion"]
    await store.create(body)
    store.full = True
    ports = ports_over(store, events)
    manager = asyncio.ensure_future(Manager(ports).run())
    await asyncio.sleep(seconds)
    manager.cancel()
    return [f"{told.reason}: {told.message}" for told in events.told]


def test_a_full_disk_is_told_within_seconds_and_a_short_absence_is_not() -> None:
    assert virtual_loop.run(told_after(0.5), seed=0) == []
    told = virtual_loop.run(told_after(10.0), seed=0)
    assert set(told) == {"Unavailable: the disk is full; it is tried again until it works"}


def test_of_what_happens_only_hindrances_are_said_aloud() -> None:
    said: list[str] = []
    events = SpokenEvents(said.append)
    about: Json = {"kind": "Trial", "metadata": {"namespace": "n", "name": "t"}}
    events.record(about, "Normal", "TrialSucceeded", "Trial has succeeded")
    events.record(about, "Warning", "TrialFailed", "the command exited with code 1")
    events.record(about, "Warning", "Unavailable", "the disk is full")
    assert said == ["Trial/n/t: the disk is full"]


def test_the_same_sentence_is_said_once() -> None:
    said: list[str] = []
    events = SpokenEvents(said.append)
    for name in ("a", "b", "a"):
        about: Json = {"kind": "Trial", "metadata": {"namespace": "n", "name": name}}
        events.record(about, "Warning", "Unavailable", "the disk is full")
    assert said == ["Trial/n/a: the disk is full"]
