# SPDX-License-Identifier: Apache-2.0
"""Ports of a manager over one store, everything else in memory: for tests of the manager itself."""

from __future__ import annotations

from deterministic import CountingRng, TickingClock
from in_process_suggestions import InProcessSuggestions, StaticHost
from memory_observations import MemoryObservationLog
from scripted_workloads import ScriptedWorkloads
from stopping_rules import CeilingRules

from tunesmith_controller.ports import Events, ObjectStore, Ports


def ports_over(store: ObjectStore, events: Events) -> Ports:
    return Ports(
        store=store,
        workloads=ScriptedWorkloads(),
        host=StaticHost(),
        suggestions=InProcessSuggestions(),
        observations=MemoryObservationLog(),
        clock=TickingClock(),
        rng=CountingRng(),
        events=events,
        stopping=CeilingRules(),
    )
