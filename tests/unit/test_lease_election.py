# SPDX-License-Identifier: Apache-2.0
"""Leader election on a virtual clock: one leads, a silent one is replaced, never do two lead."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import virtual_loop
from deterministic import CountingRng, TickingClock

from tunesmith_controller.manager.election import ElectionSettings, LeaseElection
from tunesmith_controller.ports import Json, Key, Unavailable
from tunesmith_controller.stores.memory import MemoryStore

KEY = Key("Lease", "kubeflow", "tunesmith-controller")
LONGEST_S = 15 + 2 * 2 + 1


class Faulty(MemoryStore):
    """A store behind a network: calls take time and may fail before or after they took effect."""

    def __init__(self, shared: MemoryStore, chance: random.Random, faults: float) -> None:
        super().__init__(TickingClock(), CountingRng())
        self._shared = shared
        self._chance = chance
        self._faults = faults
        self.cut_off = False

    async def get(self, key: Key) -> Json:
        await self._travel()
        return await self._shared.get(key)

    async def create(self, obj: Json) -> Json:
        await self._travel()
        found = await self._shared.create(obj)
        await self._travel()
        return found

    async def update(self, obj: Json) -> Json:
        await self._travel()
        found = await self._shared.update(obj)
        await self._travel()
        return found

    async def _travel(self) -> None:
        await asyncio.sleep(self._chance.random() * 2.0 * bool(self._faults))
        if self.cut_off or self._chance.random() < self._faults:
            raise Unavailable("the network is gone")


def shared() -> MemoryStore:
    return MemoryStore(TickingClock(), CountingRng())


def candidate(store: MemoryStore, name: str) -> LeaseElection:
    return LeaseElection(store, KEY, name)


def test_the_second_candidate_leads_as_soon_as_the_first_has_released() -> None:
    async def scenario() -> float:
        store = shared()
        first, second = candidate(store, "a"), candidate(store, "b")
        await first.acquire()
        waiting = asyncio.ensure_future(second.acquire())
        await asyncio.sleep(60)
        assert first.leads and not second.leads and not waiting.done()
        began = asyncio.get_running_loop().time()
        await first.release()
        await waiting
        assert second.leads and not first.leads
        return asyncio.get_running_loop().time() - began

    assert virtual_loop.run(scenario(), seed=0) <= 2.0


def test_a_killed_leader_is_replaced_when_its_lease_has_run_out() -> None:
    async def scenario() -> float:
        store = shared()
        first, second = candidate(store, "a"), candidate(store, "b")
        await first.acquire()
        assert first._renewing is not None
        first._renewing.cancel()  # as kill -9 does: nothing is given back
        began = asyncio.get_running_loop().time()
        await second.acquire()
        return asyncio.get_running_loop().time() - began

    assert 15.0 < virtual_loop.run(scenario(), seed=0) <= LONGEST_S


def test_a_restarted_leader_of_the_same_name_goes_on_at_once() -> None:
    async def scenario() -> float:
        store = shared()
        await candidate(store, "a").acquire()
        began = asyncio.get_running_loop().time()
        await candidate(store, "a").acquire()
        return asyncio.get_running_loop().time() - began

    assert virtual_loop.run(scenario(), seed=0) < 1.0


def test_a_leader_that_cannot_renew_stops_before_another_begins() -> None:
    async def scenario() -> tuple[float, float]:
        store = shared()
        behind = Faulty(store, random.Random(1), 0.0)
        first, second = candidate(behind, "a"), candidate(store, "b")
        await first.acquire()
        behind.cut_off = True
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(second.acquire())
        await first.lost.wait()
        stopped = loop.time()
        assert not second.leads
        await waiting
        return stopped, loop.time()

    stopped, began = virtual_loop.run(scenario(), seed=0)
    assert began - stopped > 1.0


def test_transitions_are_counted_and_renewals_are_not() -> None:
    async def scenario() -> Json:
        store = shared()
        first = candidate(store, "a")
        await first.acquire()
        await asyncio.sleep(30)
        await first.release()
        await candidate(store, "b").acquire()
        found: Json = (await store.get(KEY))["spec"]
        return found

    spec = virtual_loop.run(scenario(), seed=0)
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 2)


@pytest.mark.parametrize("seed", range(40))
def test_two_never_lead_whatever_the_network_does(seed: int) -> None:
    """Three candidates on a network that is slow and loses a third of all calls and replies."""
    chance = random.Random(seed)
    led: list[str] = []

    async def lead(store: MemoryStore, name: str, leading: set[str]) -> None:
        while True:
            election = candidate(store, name)
            await election.acquire()
            leading.add(name)
            assert leading == {name}, leading
            led.append(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chance.random() * 60):
                    await election.lost.wait()
            leading.discard(name)  # stops its work, then gives the lease back
            await election.release()
            await asyncio.sleep(chance.random() * 5)

    async def scenario() -> None:
        store, leading = shared(), set[str]()
        tasks = [
            asyncio.ensure_future(lead(Faulty(store, chance, 0.3), name, leading)) for name in "abc"
        ]
        await asyncio.sleep(600)
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()

    virtual_loop.run(scenario(), seed=seed)
    assert len(led) > 3


@pytest.mark.parametrize(("duration", "renew", "retry"), [(10, 10.0, 2.0), (15, 1.0, 2.0)])
def test_settings_that_would_let_two_lead_are_refused(
    duration: int, renew: float, retry: float
) -> None:
    with pytest.raises(ValueError, match="retry_s < renew_s < duration_s"):
        ElectionSettings(duration, renew, retry)


class Counting(MemoryStore):
    reads = 0

    async def get(self, key: Key) -> Json:
        self.reads += 1
        return await super().get(key)


def test_a_leader_renews_without_reading_and_notices_who_changed_the_lease() -> None:
    async def story() -> None:
        store = Counting(TickingClock(), CountingRng())
        leader = candidate(store, "a")
        await leader.acquire()
        before = store.reads
        await asyncio.sleep(31)
        assert leader.leads
        assert store.reads == before
        lease = await store.get(KEY)
        await store.update({**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
        await asyncio.sleep(3)
        assert not leader.leads
        await leader.release()

    virtual_loop.run(story())
