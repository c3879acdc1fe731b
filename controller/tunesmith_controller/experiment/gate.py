# SPDX-License-Identifier: Apache-2.0
"""The gate before new Experiments in a world whose store lets anything in.

On one machine whoever stores an Experiment admits it first, and in a cluster the webhooks do. Where
they are not installed, or were not there at that moment, it gets its defaults here, or fails with
every fault named. What passed a webhook comes through unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from tunesmith_api.conditions import ExperimentState, advance_experiment
from tunesmith_api.resources import ExperimentStatus
from tunesmith_controller.admission.local import Refused
from tunesmith_controller.ports import CachedObjects, Json, Key, Ports

Admission = Callable[[Json], Awaitable[Json]]
"""The Experiment with every default. Raises Refused, Unavailable."""

REFUSED: Final = "ExperimentRefused"
_MOST_TEXT: Final = 8_000
"""Characters of a condition's message; there may be a hundred faults."""


class Reconciles(Protocol):
    async def reconcile(self, key: Key) -> float | None: ...


class Gate:
    """Lets `inner` see an Experiment once it was admitted."""

    def __init__(
        self, ports: Ports, cache: CachedObjects, admission: Admission, inner: Reconciles
    ) -> None:
        self._ports = ports
        self._cache = cache
        self._admission = admission
        self._inner = inner

    async def reconcile(self, key: Key) -> float | None:
        cached = self._cache.get(key)
        if cached is None or not _is_new(cached):
            return await self._inner.reconcile(key)
        try:
            admitted = await self._admission(cached)
        except Refused as refused:
            await self._refuse(cached, refused)
            return None
        if admitted.get("spec") != cached.get("spec"):
            await self._ports.store.update(admitted)
            return None  # the change comes back as one
        return await self._inner.reconcile(key)

    async def _refuse(self, cached: Json, refused: Refused) -> None:
        message = str(refused)[:_MOST_TEXT]
        now = self._ports.clock.now()
        conditions = advance_experiment(
            (), ExperimentState.CREATED, "ExperimentCreated", "Experiment is created", now
        )
        conditions = advance_experiment(conditions, ExperimentState.FAILED, REFUSED, message, now)
        status = ExperimentStatus(conditions=conditions, start_time=now, completion_time=now)
        # The spec may be no Experiment at all, so only the status is a model.
        await self._ports.store.update_status({**cached, "status": status.json()})
        self._ports.events.record(cached, "Warning", REFUSED, message)


def _is_new(obj: Json) -> bool:
    if obj["metadata"].get("deletionTimestamp"):
        return False
    status = obj.get("status")
    return not (isinstance(status, dict) and status.get("conditions"))
