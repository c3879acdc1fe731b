# SPDX-License-Identifier: Apache-2.0
"""Ordinals whose Trial existed and was deleted by hand: they are over, and nobody can tell more.

A cache may just be late, so a suspicion is confirmed by a live list before it counts; what was
confirmed once is remembered.
"""

from __future__ import annotations

from collections.abc import Set

from tunesmith_api import names
from tunesmith_api.resources import Metadata
from tunesmith_controller.ports import Json, ObjectStore
from tunesmith_controller.trial.facts import Census, owned_by


class Absentees:
    """Of all experiments of one manager."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._confirmed: dict[str, frozenset[int]] = {}

    async def of(
        self, experiment: Metadata, proposed: int, waiting: Set[int], trials: Census
    ) -> frozenset[int]:
        """Ordinals below `proposed` that are neither Trials nor `waiting` to become some. Lists
        only when the numbers do not add up. Raises Unavailable."""
        uncreated = {ordinal for ordinal in waiting if ordinal not in trials.by_ordinal}
        absent = frozenset(
            ordinal
            for ordinal in self._confirmed.get(experiment.uid, frozenset())
            if ordinal not in trials.by_ordinal and ordinal not in uncreated
        )
        if len(trials) + len(uncreated) + len(absent) >= proposed:
            return absent
        suspects = set(range(proposed)) - uncreated - absent - trials.by_ordinal.keys()
        absent |= suspects - await self._living(experiment)
        if absent:
            self._confirmed[experiment.uid] = absent
        return absent

    async def _living(self, experiment: Metadata) -> set[int | None]:
        live = await self._store.list(
            "Trial",
            namespace=experiment.namespace,
            labels={names.LABEL_EXPERIMENT: experiment.name},
        )
        return {_ordinal(obj) for obj in live.items if owned_by(obj, experiment.uid)}

    def forget(self, experiment_uid: str) -> None:
        self._confirmed.pop(experiment_uid, None)


def _ordinal(obj: Json) -> int | None:
    text = (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_ORDINAL, "")
    return int(text) if text.isdecimal() else None
