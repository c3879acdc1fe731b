# SPDX-License-Identifier: Apache-2.0
"""Experiments that nobody admitted get their defaults from the controller, or fail and say why."""

from __future__ import annotations

import asyncio
import copy

import given
import virtual_loop
from deterministic import CountingRng, TickingClock
from small_world import ports_over

from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.stored import admitted
from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.manager.manager import Manager
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.stores.memory import MemoryStore


async def after_seconds(body: Json) -> tuple[Json, RememberedEvents]:
    """What has become of an Experiment that was put into the store as it is."""
    store, events = MemoryStore(TickingClock(), CountingRng()), RememberedEvents()
    ports = ports_over(store, events)
    world = World(is_cluster=True)
    manager = Manager(ports, admission=lambda found: admitted(store, found, world=world))
    running = asyncio.ensure_future(manager.run())
    created = await store.create(body)
    await asyncio.sleep(10.0)
    running.cancel()
    metadata = created["metadata"]
    return await store.get(Key("Experiment", metadata["namespace"], metadata["name"])), events


def as_written() -> Json:
    """As a person writes it: without what admission adds."""
    body = copy.deepcopy(given.experiment().json())
    for name in ("resourceVersion", "uid", "generation"):
        body["metadata"].pop(name, None)
    body.pop("status", None)
    return body


def test_an_experiment_without_defaults_gets_them_and_runs() -> None:
    body = as_written()
    body["spec"].pop("parallelTrialCount", None)
    body["spec"].pop("resumePolicy", None)
    found, _ = virtual_loop.run(after_seconds(body), seed=0)
    assert (found["spec"]["parallelTrialCount"], found["spec"]["resumePolicy"]) == (3, "Never")
    assert found["status"]["conditions"][-1]["type"] in ("Running", "Succeeded")


def test_a_faulty_experiment_fails_with_every_fault_and_an_event() -> None:
    body = as_written()
    body["spec"]["algorithm"]["algorithmName"] = "no-such"
    body["spec"]["maxTrialCount"] = "many"
    found, events = virtual_loop.run(after_seconds(body), seed=0)
    last = found["status"]["conditions"][-1]
    assert (last["type"], last["reason"]) == ("Failed", "ExperimentRefused")
    assert "maxTrialCount" in last["message"] and "no-such" in last["message"]
    assert [told.reason for told in events.told].count("ExperimentRefused") == 1
