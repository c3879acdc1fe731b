# SPDX-License-Identifier: Apache-2.0
"""The keyed work queue: every key at most once in line, one worker a key, backoff per key.

As in client-go's workqueue: a key added while it is worked on is worked on again afterwards.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_controller.ports import Key


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds after 1, 2, 3, ... failures in a row: doubled up to a limit, then spread
    down by up to a half so that keys that fail together do not return together."""

    first: float = 0.1
    limit: float = 30.0

    def delay(self, failures: int, jitter: float) -> float:
        doubled = self.first * 2.0 ** min(failures - 1, 32)
        return min(doubled, self.limit) * (1 - jitter / 2)


class WorkQueue:
    """Keys to reconcile. All methods belong to one event loop."""

    def __init__(self, backoff: Backoff, jitter: Callable[[], float]) -> None:
        self._backoff = backoff
        self._jitter = jitter
        self._line: OrderedDict[Key, None] = OrderedDict()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._line)

    def add(self, key: Key) -> None:
        """Puts a key in line, or marks it for another turn when it is being worked on."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        else:
            self._line[key] = None
            self._ready.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Adds a key in `delay` seconds; the earliest of several wishes counts."""
        loop = asyncio.get_running_loop()
        waiting = self._timers.get(key)
        if waiting is not None:
            if waiting.when() <= loop.time() + delay:
                return
            waiting.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def take(self) -> Key:
        """Waits for a key and marks it as being worked on; `done` must follow."""
        while not self._line:
            self._ready.clear()
            await self._ready.wait()
        key, _ = self._line.popitem(last=False)
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def failed(self, key: Key) -> float:
        """Counts a failure and schedules the retry; the delay in seconds."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = self._backoff.delay(failures, self._jitter())
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    def close(self) -> None:
        """Cancels all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
