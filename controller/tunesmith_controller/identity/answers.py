# SPDX-License-Identifier: Apache-2.0
"""What the API server said lately, and questions to it that several callers share.

Called by `TokenReviews`, `TrialPods` and `PodAddresses`. For one event loop each.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from tunesmith_controller.ports import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """At most `most` answers, each for its time; those that nobody asked for go first."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: K) -> V | None:
        until, answer = self._answers.get(key, (0.0, None))
        if answer is None:
            return None
        if self._clock() >= until:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: K, answer: V, seconds: float) -> None:
        """Not at all when `seconds` are none."""
        if seconds <= 0:
            return
        self._answers[key] = (self._clock() + seconds, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)


class Shared(Generic[K, V]):
    """One question at a time about one thing: who asks meanwhile gets the same answer, or error.
    Who leaves does not end it for the others."""

    def __init__(self, at_once: int, waiting: int) -> None:
        """at_once: questions that are put together; waiting: those beyond that are Unavailable."""
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._asked: dict[K, asyncio.Task[V]] = {}

    async def one(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """Raises what `ask` does, and Unavailable when too many wait."""
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= self._most:
                raise Unavailable(f"{len(self._asked)} callers wait for the API server already")
            task = self._asked[key] = asyncio.ensure_future(self._put(ask))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    async def _put(self, ask: Callable[[], Awaitable[V]]) -> V:
        async with self._places:
            return await ask()

    def _answered(self, key: K, done: asyncio.Task[V]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # marks it as seen: everybody may have left
