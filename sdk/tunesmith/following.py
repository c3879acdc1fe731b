# SPDX-License-Identifier: Apache-2.0
"""Running an experiment to its end: submit or continue, control, follow, interrupt, delete.

`run` is a submitter, a watcher and a candidate for control in one: whoever holds the lease of the
state directory works on every experiment in it, and when that process ends the next takes over.
`watch` only looks.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from tunesmith.access import Access
from tunesmith.errors import ChangedExperiment, StateUnusable, TunesmithError
from tunesmith.follower import (
    Follower,
    Interrupt,
    Notice,
    OnUpdate,
    Wish,
    is_final,
    settled,
    silent,
    stopped,
)
from tunesmith.home import next_command
from tunesmith.lookup import maybe
from tunesmith.mirror import Mirror, mirrored
from tunesmith.views import ExperimentView, TrialView
from tunesmith_api import names
from tunesmith_api.errors import AlreadyExists, NotFound, PortError
from tunesmith_api.resources import Experiment
from tunesmith_controller.ports import Json, Key, ObjectStore

_CLEAN_UP_S = 60.0
"""How long to wait for processes and files of a finished or deleted experiment."""
_EDITABLE = ("maxTrialCount", "parallelTrialCount")
"""What `tunesmith extend` changes."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run. `experiment` is admitted and annotated; `config_maps` are stored before it."""

    experiment: Json
    config_maps: tuple[Json, ...] = ()
    fresh: bool = False
    on_update: OnUpdate | None = None
    notice: Notice = field(default=silent)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How it stands when `run` or `watch` returns; `wish` tells whether a person interrupted it."""

    experiment: ExperimentView
    trials: tuple[TrialView, ...]
    continued: bool = False
    wish: Wish = Wish.NONE


async def run(access: Access, request: RunRequest, interrupt: Interrupt) -> RunResult:
    """Runs to the end, or until interrupted. Raises ChangedExperiment, InvalidExperiment."""
    interrupt.attach(asyncio.get_running_loop())
    key, uid, continued = await _submit(access, request)
    async with (
        controlled(access, request.notice) as control,
        mirrored(access.store, key, uid) as (mirror, keeping),
    ):
        follower = Follower(mirror, keeping, control, interrupt, request.on_update)
        view, trials = await follower.until(settled)
        wish = interrupt.wish
        if wish is Wish.STOP and not view.is_over:
            await _annotate(access, key, "true")
            view, trials = await follower.until(stopped, Wish.STOP, within=_CLEAN_UP_S)
    return RunResult(view, tuple(trials), continued, wish)


# ---- submitting ---------------------------------------------------------------------------------


async def _submit(access: Access, request: RunRequest) -> tuple[Key, str, bool]:
    """Key and uid of the stored experiment, and whether it existed before."""
    metadata = request.experiment["metadata"]
    key = Key("Experiment", metadata["namespace"], metadata["name"])
    existing = await _get(access, key)
    if existing is not None and request.fresh:
        await delete(access, existing, notice=silent)
        existing = None
    if existing is None:
        try:
            await store_config_maps(access.store, request.config_maps)
            stored = await access.store.create(request.experiment)
        except AlreadyExists:
            existing = await _get(access, key)
        else:
            return key, stored["metadata"]["uid"], False
    if existing is None:
        raise TunesmithError(f"experiment {key.name} was deleted while it was submitted")
    _refuse_changes(existing, request.experiment)
    await store_config_maps(access.store, request.config_maps)
    if names.ANNOTATION_PAUSED in (existing.metadata.annotations or {}):
        await _annotate(access, key, None)
    return key, existing.metadata.uid, True


async def store_config_maps(store: ObjectStore, config_maps: Sequence[Json]) -> None:
    """Creates each, or updates it where it differs."""
    for config_map in config_maps:
        metadata = config_map["metadata"]
        key = Key("ConfigMap", metadata["namespace"], metadata["name"])
        try:
            await store.create(config_map)
        except AlreadyExists:
            patch = {name: value for name, value in config_map.items() if name != "metadata"}
            before = await store.get(key)
            gone = {name: None for name in before.get("data") or {}}
            await store.patch(key, {**patch, "data": {**gone, **(patch.get("data") or {})}})


def _refuse_changes(existing: Experiment, submitted: Json) -> None:
    annotations = existing.metadata.annotations or {}
    wanted = submitted["metadata"]["annotations"][names.ANNOTATION_SPEC_DIGEST]
    if annotations.get(names.ANNOTATION_SPEC_DIGEST) == wanted:
        return
    before, after = existing.json().get("spec") or {}, submitted.get("spec") or {}
    # Points that were enqueued since are no difference of the file.
    before = {**before, "enqueued": after.get("enqueued", before.get("enqueued"))}
    if _yaml(before) == _yaml(after):
        return
    name = existing.metadata.name
    labels = (f"{name} (existing)", f"{name} (file)")
    lines = difflib.unified_diff(_yaml(before), _yaml(after), *labels, n=2)
    raise ChangedExperiment(name, "".join(lines), _extending(existing, before, after))


def _extending(existing: Experiment, before: Json, after: Json) -> str:
    """The command that makes the change, where it is one of the budget alone; else ""."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not changed <= set(_EDITABLE) or not all(after.get(name) for name in changed):
        return ""
    options = {"maxTrialCount": "--trials", "parallelTrialCount": "--parallel"}
    words = [w for name in _EDITABLE if name in changed for w in (options[name], str(after[name]))]
    metadata = existing.metadata
    return next_command("extend", metadata.name, *words, namespace=metadata.namespace)


def _yaml(spec: Mapping[str, object]) -> list[str]:
    kept = {name: value for name, value in spec.items() if value is not None}
    return yaml.safe_dump(kept, sort_keys=True, allow_unicode=True).splitlines(keepends=True)


async def _get(access: Access, key: Key) -> Experiment | None:
    found = await maybe(access.store, key)
    return None if found is None else Experiment.parse(found)


async def _annotate(access: Access, key: Key, paused: str | None) -> None:
    patch = {"metadata": {"annotations": {names.ANNOTATION_PAUSED: paused}}}
    await access.store.patch(key, patch)


# ---- control ------------------------------------------------------------------------------------


@asynccontextmanager
async def controlled(access: Access, notice: Notice) -> AsyncIterator[asyncio.Task[None]]:
    """Is a candidate for control for as long as the block lasts. Raises StateUnusable."""
    if holder := access.controller:
        notice(f"{holder} runs the trials of this state directory until it ends")
    async with controlling(access.control(notice)) as control:
        yield control


@asynccontextmanager
async def controlling(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs `work`, a controller, for as long as the block lasts. Raises StateUnusable."""
    control = asyncio.ensure_future(work)
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


# ---- watching -----------------------------------------------------------------------------------


async def watch(
    access: Access,
    experiment: Experiment,
    interrupt: Interrupt,
    *,
    on_update: OnUpdate | None = None,
    notice: Notice = silent,
) -> RunResult:
    """Follows until the experiment has ended or the person has seen enough; changes nothing."""
    interrupt.attach(asyncio.get_running_loop())
    metadata = experiment.metadata
    key = Key("Experiment", metadata.namespace, metadata.name)
    nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with mirrored(access.store, key, metadata.uid) as (mirror, keeping):
        look = _NobodyControls(access, notice)
        follower = Follower(mirror, keeping, nobody, interrupt, on_update, look)
        view, trials = await follower.until(lambda view, trials: is_final(view))
    return RunResult(view, tuple(trials), True, interrupt.wish)


@dataclass(slots=True)
class _NobodyControls:
    """Says when nothing goes on because no controller runs, once each time."""

    access: Access
    notice: Notice
    said: bool = False

    def __call__(self, view: ExperimentView) -> None:
        missing = not view.is_over and not self.access.controller
        if missing and not self.said:
            self.notice("no controller is running: `tunesmith serve` or `tunesmith run` starts one")
        self.said = missing


# ---- deleting -----------------------------------------------------------------------------------


async def delete(
    access: Access, experiment: Experiment, *, notice: Notice, wait: bool = True
) -> None:
    """Deletes an experiment and waits until nothing of it is left (trials, rows, files). Raises
    StateUnusable when no trial has gone for a minute."""
    metadata = experiment.metadata
    key = Key("Experiment", metadata.namespace, metadata.name)
    with suppress(NotFound):
        await access.store.delete(key, uid=metadata.uid)
    if wait:
        await clean_up(access, key, metadata.uid, notice=notice)


async def clean_up(access: Access, key: Key, uid: str, *, notice: Notice) -> None:
    """Waits until nothing is left of an experiment that was deleted. Raises as `delete`."""
    async with (
        controlled(access, notice) as control,
        mirrored(access.store, key, uid) as (mirror, keeping),
    ):
        while left := mirror.trial_count:
            if not await _fewer(mirror, left, (control, keeping)):
                raise StateUnusable(
                    f"experiment {key.name} is deleted, but {left} of its trials are still ending",
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
