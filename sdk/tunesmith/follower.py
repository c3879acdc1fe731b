# SPDX-License-Identifier: Apache-2.0
"""Follows one experiment by its mirror until something is so, and how a person interrupts that.

Called by `following` (run, watch, delete) and by the life-cycle verbs, which wait for their effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.home import next_command
from tunesmith.mirror import Mirror, mirrored
from tunesmith.views import ExperimentView, TrialView
from tunesmith_controller.ports import Key, ObjectStore

OnUpdate = Callable[[ExperimentView, Sequence[TrialView]], None]
Notice = Callable[[str], None]
Seen = tuple[ExperimentView, Sequence[TrialView]]
Done = Callable[[ExperimentView, Sequence[TrialView]], bool]

_BURST_S = 0.05
"""Changes come in bursts; one look for all of them."""
_LOOK_S = 2.0
"""A look at least this often: what is no object (who controls) changes without an event."""


def silent(sentence: str) -> None:
    """A notice that nobody reads."""


class Wish(StrEnum):
    """What an interrupted person wants for the trials."""

    NONE = "none"
    STOP = "stop"
    LEAVE = "leave"


class Interrupt:
    """How a person reaches a `run` that is under way; `set` may be called from any thread."""

    def __init__(self) -> None:
        self.wish = Wish.NONE
        self.changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called once, from inside the event loop of the run."""
        self._loop = loop

    def set(self, wish: Wish) -> None:
        """STOP, then LEAVE to wait no longer for what is being stopped."""
        self.wish = wish
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.changed.set)


@dataclass(slots=True)
class Follower:
    """Tells `on_update` every change of the mirror. `control` ends when nobody can carry out what
    is waited for; `look` is called at each look."""

    mirror: Mirror
    keeping: asyncio.Future[list[None]]
    control: asyncio.Future[None]
    interrupt: Interrupt
    on_update: OnUpdate | None = None
    look: Callable[[ExperimentView], None] | None = None
    shown: Seen | None = None

    async def until(self, done: Done, wish: Wish = Wish.NONE, within: float = 0.0) -> Seen:
        """Follows until `done`, another wish, the end of control, or (when given) a time in s.
        Raises Unavailable, and TunesmithError when the experiment is deleted."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            self.mirror.changed.clear()
            self.interrupt.changed.clear()
            seen = self._look()
            if done(*seen) or self.interrupt.wish is not wish or self.control.done():
                return seen
            if within and loop.time() > deadline:
                return seen
            await self._wait()

    def _look(self) -> Seen:
        if self.keeping.done():
            self.keeping.result()  # raises what ended it
        view = self.mirror.experiment()
        if view is None:
            name, namespace = self.mirror.key.name, self.mirror.key.namespace
            raise TunesmithError(
                f"experiment {name} was deleted meanwhile",
                f"{next_command('ls', namespace=namespace)}  # shows what is there",
            )
        seen = (view, self.mirror.trials())
        if self.on_update is not None and seen != self.shown:
            self.on_update(*seen)
        if self.look is not None:
            self.look(view)
        self.shown = seen
        return seen

    async def _wait(self) -> None:
        changes = (self.mirror.changed, self.interrupt.changed)
        waits = [asyncio.ensure_future(event.wait()) for event in changes]
        ends: list[asyncio.Future[Any]] = [*waits, self.control, self.keeping]
        try:
            await asyncio.wait(ends, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await asyncio.sleep(_BURST_S)


async def wait_for(store: ObjectStore, key: Key, uid: str, done: Done, within: float) -> Seen:
    """How it stands once `done`, or after a time in s. Raises as Follower.until."""
    nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with mirrored(store, key, uid) as (mirror, keeping):
        return await Follower(mirror, keeping, nobody, Interrupt()).until(done, within=within)


def settled(view: ExperimentView, trials: Sequence[TrialView]) -> bool:
    """Over, and nothing of it runs any more."""
    return is_final(view) and all(trial.is_over and trial.released for trial in trials)


def is_final(view: ExperimentView) -> bool:
    """Over, and nobody takes it up again."""
    return view.is_over and not view.goes_on


def stopped(view: ExperimentView, trials: Sequence[TrialView]) -> bool:
    """Paused or over, and nothing of it runs any more."""
    return view.is_over or all(trial.is_over or trial.is_paused for trial in trials)
