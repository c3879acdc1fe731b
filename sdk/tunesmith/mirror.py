# SPDX-License-Identifier: Apache-2.0
"""One experiment and its trials, kept up to date by watching; only what changed is read again.

Used by `following`, which looks after every change: reading ten thousand trials each time would
cost seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter

from tunesmith.views import ExperimentView, TrialView, experiment_view, trial_view
from tunesmith_api import names
from tunesmith_api.errors import Expired, Unavailable
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.ports import Change, Json, Key, ObjectStore

_KINDS = ("Experiment", "Suggestion", "Trial")
_RETRY_S = 0.5


class Mirror:
    """What the store last told of the experiment `key` with this uid. `changed` is set whenever
    that may differ from before; it is for the reader to clear."""

    def __init__(self, store: ObjectStore, key: Key, uid: str) -> None:
        self.changed = asyncio.Event()
        self._store = store
        self.key = key
        self._uid = uid
        self._experiment: Json | None = None
        self._suggestion: Json | None = None
        self._unread: dict[str, Json] = {}
        self._views: dict[str, TrialView] = {}

    def experiment(self) -> ExperimentView | None:
        """The experiment, None once it is gone."""
        if self._experiment is None:
            return None
        return experiment_view(Experiment.parse(self._experiment), self._suggestion)

    def trials(self) -> Sequence[TrialView]:
        """Its trials in ordinal order; those that have not changed are the same objects."""
        for name, obj in self._unread.items():
            self._views[name] = trial_view(Trial.parse(obj))
        self._unread.clear()
        return sorted(self._views.values(), key=attrgetter("ordinal"))

    @property
    def trial_count(self) -> int:
        return len(self._views.keys() | self._unread.keys())

    async def keep(self, kind: str, version: str) -> None:
        """Follows one kind from a version on until cancelled. Raises Unavailable when the store
        cannot be read at all."""
        while True:
            # A watch may end at any time; what was missed is listed.
            with suppress(Expired, Unavailable):
                await self._follow(kind, version)
            await asyncio.sleep(_RETRY_S)
            version = await self.refresh(kind)

    async def refresh(self, kind: str) -> str:
        """Lists one kind; the version from which changes follow. Raises Unavailable."""
        listed = await self._store.list(
            kind, namespace=self.key.namespace, labels=self._labels(kind)
        )
        ours = {obj["metadata"]["name"]: obj for obj in listed.items if self._is_ours(obj)}
        if kind == "Trial":
            self._views = {name: view for name, view in self._views.items() if name in ours}
            self._unread = ours
        else:
            self._replace(kind, ours.get(self.key.name))
        self.changed.set()
        return listed.resource_version

    def _labels(self, kind: str) -> Mapping[str, str] | None:
        return {names.LABEL_EXPERIMENT: self.key.name} if kind == "Trial" else None

    async def _follow(self, kind: str, version: str) -> None:
        stream = self._store.watch(kind, namespace=self.key.namespace, resource_version=version)
        async for event in stream:
            if event.change is Change.BOOKMARK or not self._is_ours(event.object):
                continue
            gone = event.change is Change.DELETED
            if kind == "Trial":
                self._change(event.object["metadata"]["name"], None if gone else event.object)
            else:
                self._replace(kind, None if gone else event.object)
            self.changed.set()

    def _change(self, name: str, obj: Json | None) -> None:
        if obj is None:
            self._unread.pop(name, None)
            self._views.pop(name, None)
        else:
            self._unread[name] = obj

    def _replace(self, kind: str, obj: Json | None) -> None:
        if kind == "Experiment":
            self._experiment = obj
        else:
            self._suggestion = obj

    def _is_ours(self, obj: Json) -> bool:
        """Told by uid: an experiment that was deleted and made again is another one."""
        metadata = obj["metadata"]
        if obj["kind"] == "Experiment":
            return bool(metadata["uid"] == self._uid)
        return any(owner.get("uid") == self._uid for owner in metadata.get("ownerReferences") or ())


@asynccontextmanager
async def mirrored(
    store: ObjectStore, key: Key, uid: str
) -> AsyncIterator[tuple[Mirror, asyncio.Future[list[None]]]]:
    """A mirror that is complete from the start, and a future that is done only when it cannot be
    kept any more (it then holds the Unavailable). Raises Unavailable."""
    mirror = Mirror(store, key, uid)
    versions = {kind: await mirror.refresh(kind) for kind in _KINDS}
    keeping = asyncio.gather(*(mirror.keep(kind, versions[kind]) for kind in _KINDS))
    try:
        yield mirror, keeping
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError, Unavailable):
            await keeping
