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

import yaml

from tunesmith.errors import ChangedExperiment, StateUnusable, TunesmithError
from tunesmith.views import ExperimentView, TrialView, experiment_view, trial_view
from tunesmith_api import names
from tunesmith_api.errors import AlreadyExists, NotFound
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.trial.decide import PAUSED

OnUpdate = Callable[[ExperimentView, Sequence[TrialView]], None]

_CLEAN_UP_S = 60.0
"""How long to wait for processes and files of a finished or deleted experiment."""


class Wish(StrEnum):
    """What an interrupted person wants for the trials."""

    NONE = "none"
    STOP = "stop"
    LEAVE = "leave"


class Interrupt:
    """Set from a signal handler or another thread's prompt; looked at by `run`."""

    def __init__(self) -> None:
        self.wish = Wish.NONE
        self.changed = asyncio.Event()

    def attach(self) -> None:
        """Called once inside the running event loop."""

    def set(self, wish: Wish) -> None:
        self.wish = wish
        self.changed.set()


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
    interrupt.attach()
    key, continued = await _submit(plane, request)
    async with _controlled(plane, request.notice) as control:
        view, trials = await _follow(plane, key, request.on_update, interrupt, control)
        if interrupt.wish is Wish.STOP and not view.is_over:
            view, trials = await _pause(plane, key, request, control)
    return RunResult(view, tuple(trials), continued, interrupt.wish)


async def _submit(plane: LocalPlane, request: RunRequest) -> tuple[Key, bool]:
    """The key of the stored experiment, and whether it existed before."""
    metadata = request.experiment["metadata"]
    key = Key("Experiment", metadata["namespace"], metadata["name"])
    existing = await _get(plane, key)
    if existing is not None and request.fresh:
        await delete(plane, existing, notice=request.notice)
        existing = None
    if existing is None:
        try:
            await plane.submit(request.experiment)
        except AlreadyExists:
            existing = await _get(plane, key)
        else:
            return key, False
    if existing is None:
        raise TunesmithError(f"experiment {key.name} was deleted while it was submitted")
    _refuse_changes(existing, request.experiment, plane)
    await _unpause(plane, key, existing)
    return key, True


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


async def _unpause(plane: LocalPlane, key: Key, existing: Experiment) -> None:
    if names.ANNOTATION_PAUSED in (existing.metadata.annotations or {}):
        await _annotate(plane, key, None)


async def _annotate(plane: LocalPlane, key: Key, paused: str | None) -> None:
    patch = {"metadata": {"annotations": {names.ANNOTATION_PAUSED: paused}}}
    await plane.store.patch(key, patch)


@asynccontextmanager
async def _controlled(
    plane: LocalPlane, notice: Callable[[str], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """Is a candidate for control for as long as the block lasts."""
    control = asyncio.ensure_future(plane.control(notice=notice))
    try:
        yield control
    finally:
        control.cancel()
        await asyncio.wait([control])
        if not control.cancelled() and (error := control.exception()) is not None:
            raise StateUnusable(f"the controller stopped: {error}") from error


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


class _Changes:
    """Wakes when an object of the experiment may have changed."""

    def __init__(self, plane: LocalPlane, namespace: str) -> None:
        self._plane = plane
        self._namespace = namespace
        self.event = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Changes:
        self._tasks = [asyncio.ensure_future(self._watch(k)) for k in ("Experiment", "Trial")]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, kind: str) -> None:
        listed = await self._plane.store.list(kind, namespace=self._namespace)
        self.event.set()
        stream = self._plane.store.watch(
            kind, namespace=self._namespace, resource_version=listed.resource_version
        )
        async for _ in stream:
            self.event.set()


async def _look(plane: LocalPlane, key: Key) -> tuple[ExperimentView, list[TrialView]]:
    experiment = await _get(plane, key)
    if experiment is None:
        raise TunesmithError(
            f"experiment {key.name} was deleted while it ran", "tunesmith ls shows what is there"
        )
    trials = await trials_of(plane, experiment)
    return experiment_view(experiment), [trial_view(trial) for trial in trials]


def _settled(view: ExperimentView, trials: Sequence[TrialView]) -> bool:
    """Over, and nothing of it runs any more."""
    return view.is_over and all(trial.is_over and trial.released for trial in trials)


async def _follow(
    plane: LocalPlane,
    key: Key,
    on_update: OnUpdate | None,
    interrupt: Interrupt,
    control: asyncio.Task[None],
) -> tuple[ExperimentView, list[TrialView]]:
    """Tells `on_update` every change until the experiment is settled or interrupted."""
    shown: tuple[ExperimentView, list[TrialView]] | None = None
    async with _Changes(plane, key.namespace) as changes:
        while True:
            changes.event.clear()
            seen = await _look(plane, key)
            if on_update is not None and seen != shown:
                on_update(*seen)
            shown = seen
            if _settled(*seen) or interrupt.wish is not Wish.NONE or control.done():
                return seen
            await _first(changes.event, interrupt.changed, control)


async def _first(
    changed: asyncio.Event, interrupted: asyncio.Event, control: asyncio.Task[None]
) -> None:
    waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(interrupted.wait())]
    await asyncio.wait([*waits, control], timeout=2.0, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    # Changes come in bursts; one look for all of them.
    await asyncio.sleep(0.05)


# ---- stopping and deleting ----------------------------------------------------------------------


async def _pause(
    plane: LocalPlane, key: Key, request: RunRequest, control: asyncio.Task[None]
) -> tuple[ExperimentView, list[TrialView]]:
    """Stops the running trials; the experiment stays and can be continued."""
    await _annotate(plane, key, "true")
    deadline = asyncio.get_running_loop().time() + _CLEAN_UP_S
    while True:
        view, trials = await _look(plane, key)
        if request.on_update is not None:
            request.on_update(view, trials)
        if all(t.is_over or t.waiting == PAUSED for t in trials):
            return view, trials
        if control.done() or asyncio.get_running_loop().time() > deadline:
            request.notice("some trials are still stopping; their supervisors will end them")
            return view, trials
        await asyncio.sleep(0.1)


async def delete(
    plane: LocalPlane,
    experiment: Experiment,
    *,
    notice: Callable[[str], None],
    wait: bool = True,
) -> None:
    """Deletes an experiment and waits until nothing of it is left (trials, rows, files)."""
    metadata = experiment.metadata
    key = Key("Experiment", metadata.namespace, metadata.name)
    with suppress(NotFound):
        await plane.store.delete(key, uid=metadata.uid)
    if not wait:
        return
    async with _controlled(plane, notice) as control:
        deadline = asyncio.get_running_loop().time() + _CLEAN_UP_S
        while await trials_of(plane, experiment):
            if control.done():
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StateUnusable(
                    f"experiment {metadata.name} is deleted, but some of its trials are still "
                    "ending",
                    "run the command again in a minute",
                )
            await asyncio.sleep(0.1)
