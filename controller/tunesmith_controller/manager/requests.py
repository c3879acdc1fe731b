# SPDX-License-Identifier: Apache-2.0
"""Slow remote calls as tasks with an identity, so that no worker waits for them.

A reconciler starts a request under (owner, id) and looks at it again when its key comes back;
the task's end requeues the owner. A crash forgets all of it: requests are idempotent by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tunesmith_controller.ports import Key, PortError


@dataclass(frozen=True, slots=True)
class Answered:
    value: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """The call failed; `failures` counts those in a row for this owner."""

    error: PortError
    failures: int


class Requests:
    """At most one request per owner; starting another id replaces the old one."""

    def __init__(self, requeue: Callable[[Key], None]) -> None:
        self._requeue = requeue
        self._running: dict[Key, tuple[str, asyncio.Task[Any]]] = {}
        self._failures: dict[Key, int] = {}

    def poll(
        self, owner: Key, id_: str, call: Callable[[], Awaitable[Any]]
    ) -> Answered | Refused | None:
        """The outcome of the request, None while it runs; starts it when it is not running.

        An answer stays until `forget`; a refusal is told once, the next poll starts anew.
        """
        current = self._running.get(owner)
        if current is None or current[0] != id_:
            self._start(owner, id_, call)
            return None
        task = current[1]
        if not task.done():
            return None
        error = task.exception()
        if error is None:
            self._failures.pop(owner, None)
            return Answered(task.result())
        del self._running[owner]
        if not isinstance(error, PortError):
            raise error
        self._failures[owner] = self._failures.get(owner, 0) + 1
        return Refused(error, self._failures[owner])

    def _start(self, owner: Key, id_: str, call: Callable[[], Awaitable[Any]]) -> None:
        self.forget(owner)
        task: asyncio.Task[Any] = asyncio.ensure_future(_as_task(call))
        task.add_done_callback(lambda done: None if done.cancelled() else self._requeue(owner))
        self._running[owner] = (id_, task)

    def forget(self, owner: Key) -> None:
        """Drops an owner's request, cancelling it when it still runs."""
        current = self._running.pop(owner, None)
        if current is not None and not current[1].done():
            current[1].cancel()
        elif current is not None and not current[1].cancelled():
            current[1].exception()

    def close(self) -> None:
        for owner in list(self._running):
            self.forget(owner)


async def _as_task(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()
