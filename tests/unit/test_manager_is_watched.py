# SPDX-License-Identifier: Apache-2.0
"""What a manager sees and does ends up in the series, and it says when it has seen everything."""

from __future__ import annotations

import asyncio

import given
import virtual_loop
from deterministic import CountingRng, TickingClock
from prometheus_client import CollectorRegistry
from small_world import ports_over

from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_controller.telemetry.series import Series


async def scraped() -> CollectorRegistry:
    """After an experiment was made and its first trials began."""
    store, registry = MemoryStore(TickingClock(), CountingRng()), CollectorRegistry()
    ports = ports_over(store, RememberedEvents())
    manager = Manager(ports, watcher=Series(registry))
    assert not manager.is_synced
    running = asyncio.ensure_future(manager.run())
    await asyncio.sleep(1.0)
    assert manager.is_synced
    body = given.experiment().json()
    del body["metadata"]["resourceVersion"]
    await store.create(body)
    await asyncio.sleep(5.0)
    running.cancel()
    return registry


def test_reconciles_and_objects_are_in_the_series() -> None:
    registry = virtual_loop.run(scraped(), seed=0)
    namespace = given.experiment().metadata.namespace
    for kind in ("experiment", "trial"):
        name = f"katib_{kind}_created_total"
        assert registry.get_sample_value(name, {"namespace": namespace})
    done = registry.get_sample_value(
        "tunesmith_reconcile_seconds_count", {"kind": "Trial", "outcome": "done"}
    )
    assert done
