# SPDX-License-Identifier: Apache-2.0
"""An asyncio event loop whose time is virtual: waiting costs nothing and chance is a seed.

Time stands still while anything can run and then jumps to the next timer. With a seed, tasks that
are ready at the same moment run in an order that the seed decides, as the answers of a network
would arrive; without one, in the order of asyncio. Used by `world` and the tests beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The wall clock at virtual second 0."""

HOT_LOOP_STEPS = 50_000
"""Iterations of the loop without progress of time that are taken for a loop that never waits."""

TASKS_OF: ContextVar[list[asyncio.Task[Any]] | None] = ContextVar("tasks_of", default=None)
"""Where set, every task that is created in this context is listed there, in order."""


class Deadlock(RuntimeError):
    """Nothing can run and no timer is set; `tasks` says what waits."""

    def __init__(self, tasks: list[str]) -> None:
        super().__init__("nothing can ever run again; waiting: " + "; ".join(tasks))
        self.tasks = tasks


class HotLoop(RuntimeError):
    """Tasks keep each other busy and time stands still; `tasks` says which there are."""

    def __init__(self, at: float, tasks: list[str]) -> None:
        super().__init__(f"time stands still at {at} s; tasks: " + "; ".join(tasks))
        self.tasks = tasks


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, no threads, no signals; `time` starts at 0."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._selector = self
        self._now = 0.0
        self._iterations = 0
        self._chance = None if seed is None else random.Random(seed)

    def time(self) -> float:
        return self._now

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[T]:
        task = super().create_task(coro, name=name, context=context)
        listed = TASKS_OF.get()
        if listed is not None:
            listed.append(task)
        return task

    def select(self, timeout: float | None) -> list[object]:
        """What BaseEventLoop calls instead of waiting for input: time passes at once."""
        if timeout is None:
            raise Deadlock(describe_tasks(self))
        if timeout > 0:
            self._now += timeout
            self._iterations = 0
            return []
        self._iterations += 1
        if self._iterations > HOT_LOOP_STEPS:
            self._iterations = 0
            raise HotLoop(self._now, describe_tasks(self))
        if self._chance is not None:
            self._mix(self._chance)
        return []

    def _mix(self, chance: random.Random) -> None:
        """Shuffles the steps of tasks among their places. Other callbacks keep theirs: asyncio
        promises their order, and promises nothing about different tasks."""
        ready = self._ready  # type: ignore[attr-defined]
        places = [i for i, handle in enumerate(ready) if _is_step(handle)]
        if len(places) < 2:
            return
        steps = [ready[i] for i in places]
        chance.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            ready[place] = step

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No thread ever waits for this loop."""


def _is_step(handle: asyncio.Handle) -> bool:
    callback = handle._callback  # type: ignore[attr-defined]
    return isinstance(getattr(callback, "__self__", None), asyncio.Task)


def describe_tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """One line a task that has not ended: its name, its coroutine, and the line where it waits."""
    return sorted(_describe(task) for task in asyncio.all_tasks(loop))


def _describe(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    stack = task.get_stack(limit=1)
    place = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "nowhere"
    return f"{task.get_name()} {name} at {place}"


def run(coroutine: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Runs to the end under virtual time, then ends whatever tasks are left.

    Raises Deadlock, HotLoop, and what the coroutine raises.
    """
    loop = VirtualLoop(seed)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        try:
            _end_tasks(loop)
        finally:
            loop.close()


def _end_tasks(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.run_until_complete(loop.shutdown_asyncgens())


class VirtualClock:
    """Wall time that follows the running loop; START outside of any."""

    def now(self) -> datetime:
        try:
            seconds = asyncio.get_running_loop().time()
        except RuntimeError:
            seconds = 0.0
        return START + timedelta(seconds=seconds)


class SeededRng:
    """The `Rng` port from one seed."""

    def __init__(self, seed: int | str) -> None:
        self._chance = random.Random(seed)

    def seed(self) -> int:
        return self._chance.getrandbits(63)

    def uid(self) -> str:
        return str(UUID(int=self._chance.getrandbits(128), version=4))

    def jitter(self) -> float:
        return self._chance.random()


def context_listing(tasks: list[asyncio.Task[Any]]) -> Context:
    """A copy of the current context in which new tasks are listed in `tasks`."""
    context = copy_context()
    context.run(TASKS_OF.set, tasks)
    return context
