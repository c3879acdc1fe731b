# SPDX-License-Identifier: Apache-2.0
"""Running an experiment to its end: submit or continue, control, follow, interrupt, delete.

`run` is a submitter, a watcher and a candidate for control in one: whoever holds the lease of the
state directory works on every experiment in it, and when that process ends the next takes over.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

from tunesmith.errors import ChangedExperiment, StateUnusable, TunesmithError
from tunesmith.mirror import Mirror, mirrored
from tunesmith.views import ExperimentView, TrialView, trial_view
from tunesmith_api import names
from tunesmith_api.errors import AlreadyExists, NotFound, PortError
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Key

OnUpdate = Callable[[ExperimentView, Sequence[TrialView]], None]
Seen = tuple[ExperimentView, Sequence[TrialView]]

_CLEAN_UP_S = 60.0
"""How long to wait for processes and files of a finished or deleted experiment."""
_BURST_S = 0.05
"""Changes come in bursts; one look for all of them."""


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


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run. `experiment` is annotated, not yet admitted."""

    experiment: Json
    fresh: bool = False
    on_update: OnUpdate | None = None
    notice: Callable[[str], None] = field(default=lambda sentence: None)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How it stands when `run` returns; `wish` tells whether a person interrupted it."""

    experiment: ExperimentView
    trials: tuple[TrialView, ...]
    continued: bool = False
    wish: Wish = Wish.NONE


async def run(plane: LocalPlane, request: RunRequest, interrupt: Interrupt) -> RunResult:
    """Runs to the end, or until interrupted. Raises ChangedExperiment, InvalidExperiment."""
    interrupt.attach(asyncio.get_running_loop())
    key, uid, continued = await _submit(plane, request)
    async with (
        _controlled(plane, request.notice) as control,
        mirrored(plane.store, key, uid) as (mirror, keeping),
    ):
        follower = _Follower(mirror, keeping, control, request, interrupt)
        view, trials = await follower.until(_settled, Wish.NONE)
        wish = interrupt.wish
        if wish is Wish.STOP and not view.is_over:
            await _annotate(plane, key, "true")
            view, trials = await follower.until(_stopped, Wish.STOP, within=_CLEAN_UP_S)
    return RunResult(view, tuple(trials), continued, wish)


async def _submit(plane: LocalPlane, request: RunRequest) -> tuple[Key, str, bool]:
    """Key and uid of the stored experiment, and whether it existed before."""
    metadata = request.experiment["metadata"]
    key = Key("Experiment", metadata["namespace"], metadata["name"])
    existing = await _get(plane, key)
    if existing is not None and request.fresh:
        await delete(plane, existing, notice=lambda sentence: None)
        existing = None
    if existing is None:
        try:
            stored = await plane.submit(request.experiment)
        except AlreadyExists:
            existing = await _get(plane, key)
        else:
            return key, stored["metadata"]["uid"], False
    if existing is None:
        raise TunesmithError(f"experiment {key.name} was deleted while it was submitted")
    _refuse_changes(existing, request.experiment, plane)
    if names.ANNOTATION_PAUSED in (existing.metadata.annotations or {}):
        await _annotate(plane, key, None)
    return key, existing.metadata.uid, True


def _refuse_changes(existing: Experiment, submitted: Json, plane: LocalPlane) -> None:
    annotations = existing.metadata.annotations or {}
    wanted = submitted["metadata"]["annotations"][names.ANNOTATION_SPEC_DIGEST]
    if annotations.get(names.ANNOTATION_SPEC_DIGEST) == wanted:
        return
    before = _yaml(existing.json().get("spec"))
    after = _yaml(plane.admit(submitted).get("spec"))
    if before == after:
        return
    name = existing.metadata.name
    lines = difflib.unified_diff(before, after, f"{name} (existing)", f"{name} (file)", n=2)
    raise ChangedExperiment(name, "".join(lines))


def _yaml(spec: object) -> list[str]:
    return yaml.safe_dump(spec, sort_keys=True, allow_unicode=True).splitlines(keepends=True)


async def _get(plane: LocalPlane, key: Key) -> Experiment | None:
    try:
        found = Experiment.parse(await plane.store.get(key))
    except NotFound:
        return None
    return found


async def _annotate(plane: LocalPlane, key: Key, paused: str | None) -> None:
    patch = {"metadata": {"annotations": {names.ANNOTATION_PAUSED: paused}}}
    await plane.store.patch(key, patch)


@asynccontextmanager
async def _controlled(
    plane: LocalPlane, notice: Callable[[str], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """Is a candidate for control for as long as the block lasts. Raises StateUnusable."""
    holder = plane.lease.holder()
    if holder is not None:
        notice(f"process {holder} runs the trials of this state directory until it ends")
    control = asyncio.ensure_future(plane.control(notice=notice))
    try:
        yield control
    finally:
        control.cancel()
        await asyncio.wait([control])
        error = None if control.cancelled() else control.exception()
        if isinstance(error, PortError | OSError):
            raise StateUnusable(f"the controller stopped: {error}") from error
        if error is not None:
            raise error


# ---- following ----------------------------------------------------------------------------------


async def trials_of(plane: LocalPlane, experiment: Experiment) -> list[Trial]:
    """The trials that this very experiment owns, in ordinal order."""
    listed = await plane.store.list(
        "Trial",
        namespace=experiment.metadata.namespace,
        labels={names.LABEL_EXPERIMENT: experiment.metadata.name},
    )
    trials = [Trial.parse(obj) for obj in listed.items]
    uid = experiment.metadata.uid
    owned = [t for t in trials if any(o.uid == uid for o in t.metadata.owner_references)]
    return sorted(owned, key=lambda trial: trial_view(trial).ordinal)


def _settled(view: ExperimentView, trials: Sequence[TrialView]) -> bool:
    """Over, and nothing of it runs any more."""
    return view.is_over and all(trial.is_over and trial.released for trial in trials)


def _stopped(view: ExperimentView, trials: Sequence[TrialView]) -> bool:
    """Paused, and nothing of it runs any more."""
    return view.is_over or all(trial.is_over or trial.is_paused for trial in trials)


@dataclass(slots=True)
class _Follower:
    """Tells `on_update` every change of the mirror."""

    mirror: Mirror
    keeping: asyncio.Future[list[None]]
    control: asyncio.Task[None]
    request: RunRequest
    interrupt: Interrupt
    shown: Seen | None = None

    async def until(
        self,
        done: Callable[[ExperimentView, Sequence[TrialView]], bool],
        wish: Wish,
        within: float = 0.0,
    ) -> Seen:
        """Follows until `done`, another wish, the end of control, or (when given) a time in s."""
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
            raise TunesmithError(
                "the experiment was deleted while it ran", "tunesmith ls shows what is there"
            )
        seen = (view, self.mirror.trials())
        if self.request.on_update is not None and seen != self.shown:
            self.request.on_update(*seen)
        self.shown = seen
        return seen

    async def _wait(self) -> None:
        changes = (self.mirror.changed, self.interrupt.changed)
        waits = [asyncio.ensure_future(event.wait()) for event in changes]
        ends: list[asyncio.Future[Any]] = [*waits, self.control, self.keeping]
        try:
            await asyncio.wait(ends, timeout=2.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await asyncio.sleep(_BURST_S)


# ---- deleting -----------------------------------------------------------------------------------


async def delete(
    plane: LocalPlane,
    experiment: Experiment,
    *,
    notice: Callable[[str], None],
    wait: bool = True,
) -> None:
    """Deletes an experiment and waits until nothing of it is left (trials, rows, files). Raises
    StateUnusable when no trial has gone for a minute."""
    metadata = experiment.metadata
    key = Key("Experiment", metadata.namespace, metadata.name)
    with suppress(NotFound):
        await plane.store.delete(key, uid=metadata.uid)
    if not wait:
        return
    async with (
        _controlled(plane, notice) as control,
        mirrored(plane.store, key, metadata.uid) as (mirror, keeping),
    ):
        while left := mirror.trial_count:
            if not await _fewer(mirror, left, (control, keeping)):
                raise StateUnusable(
                    f"experiment {metadata.name} is deleted, but {left} of its trials are still "
                    "ending",
                    "run the command again in a minute",
                )


async def _fewer(mirror: Mirror, left: int, ends: Sequence[asyncio.Future[Any]]) -> bool:
    """Waits until fewer trials are left; False when a minute did not bring that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CLEAN_UP_S
    while mirror.trial_count >= left:
        if any(end.done() for end in ends) or loop.time() > deadline:
            return False
        mirror.changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(mirror.changed.wait(), timeout=1.0)
    return True
