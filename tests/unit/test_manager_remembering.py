# SPDX-License-Identifier: Apache-2.0
"""What a manager's own writes are read as, within a second and later."""

from __future__ import annotations

import asyncio

import virtual_loop
from deterministic import CountingRng, TickingClock

from tunesmith_controller.manager.remembering import FRESH_S, RememberingStore
from tunesmith_controller.ports import Json, Key, NotFound
from tunesmith_controller.stores.memory import MemoryStore


class Counting(MemoryStore):
    reads = 0

    async def get(self, key: Key) -> Json:
        self.reads += 1
        return await super().get(key)


def trial(name: str) -> Json:
    head = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial"}
    return {**head, "metadata": {"name": name, "namespace": "team"}, "spec": {}}


def test_an_own_trial_is_not_read_again_within_a_second_and_what_others_do_is_seen_after() -> None:
    async def story() -> None:
        below = Counting(TickingClock(), CountingRng())
        store = RememberingStore(below, {})
        key = Key("Trial", "team", "a")
        made = await store.create(trial("a"))
        assert await store.get(key) == made
        assert below.reads == 0
        theirs = await below.patch(key, {"metadata": {"labels": {"by": "people"}}})
        await asyncio.sleep(FRESH_S)
        assert await store.get(key) == theirs
        assert below.reads == 1
        await store.patch(key, {"metadata": {"labels": {"by": "us"}}})
        await store.delete(key)
        try:
            await store.get(key)
        except NotFound:
            return
        raise AssertionError("what was deleted is gone at once")

    virtual_loop.run(story())
