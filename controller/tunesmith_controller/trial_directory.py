# SPDX-License-Identifier: Apache-2.0
"""`StoredTrials`: whose a trial name is, for Katib's DBManager beside a controller.

Its requests carry a name and nothing else. The object store knows the uid and the current attempt,
at any time and without a collector having reported anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_controller.ports import Json, Key, NotFound, ObjectStore
from tunesmith_observation.by_name import NamedTrial

_DEFAULT_NAMESPACE = "default"


class StoredTrials:
    """The `TrialDirectory` of a control plane; every answer is read from the store.

    The namespace "default" comes first, so that a name costs one read there; only then all Trials
    are listed, once for each name, since a report may come every second.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._namespaces: dict[str, tuple[str, ...]] = {}

    async def named(self, trial_name: str) -> Sequence[NamedTrial]:
        """The Trials of that name: the one in "default", else all others. Raises Unavailable."""
        for namespaces in ((_DEFAULT_NAMESPACE,), self._namespaces.get(trial_name, ())):
            if found := await self._in(namespaces, trial_name):
                return found
        self._namespaces = await self._listed()
        return await self._in(self._namespaces.get(trial_name, ()), trial_name)

    async def _in(self, namespaces: Sequence[str], trial_name: str) -> list[NamedTrial]:
        found = []
        for namespace in namespaces:
            try:
                trial = await self._store.get(Key("Trial", namespace, trial_name))
            except NotFound:
                continue
            found.append(_named(trial))
        return found

    async def _listed(self) -> dict[str, tuple[str, ...]]:
        """The namespaces of each name."""
        found: dict[str, tuple[str, ...]] = {}
        for trial in (await self._store.list("Trial")).items:
            metadata = trial["metadata"]
            name, namespace = metadata["name"], metadata["namespace"]
            if namespace != _DEFAULT_NAMESPACE:
                found[name] = (*found.get(name, ()), namespace)
        return found


def _named(trial: Json) -> NamedTrial:
    """A trial that has not begun will begin with attempt 1."""
    metadata = trial["metadata"]
    run = (trial.get("status") or {}).get("run") or {}
    return NamedTrial(metadata["uid"], max(1, run.get("attempt", 0)), metadata["namespace"])
