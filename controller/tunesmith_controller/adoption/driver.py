# SPDX-License-Identifier: Apache-2.0
"""Adopts, when a controller begins to lead, what Katib's controller has kept. Killed at any moment
it is simply done again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from tunesmith_api import names
from tunesmith_controller.adoption.objects import (
    adopted_suggestion,
    adopted_trial,
    is_foreign,
    needs_its_service,
    ordinals,
)
from tunesmith_controller.ports import Conflict, Json, Key, NotFound, ObjectStore, Rng

_log = logging.getLogger(__name__)
_TRIES = 5


class Predecessors(Protocol):
    """Suggestion services that Katib made."""

    async def retire(self, suggestion: Key, algorithm: str) -> None:
        """Takes the search's away, unless it is to answer on."""
        ...


async def adopt(
    store: ObjectStore,
    rng: Rng,
    namespace: str | None = None,
    predecessors: Predecessors | None = None,
) -> int:
    """How many searches were Katib's. Raises PortErrors."""
    found = [
        each
        for each in (await store.list("Suggestion", namespace=namespace)).items
        if is_foreign(each) and not each["metadata"].get("deletionTimestamp")
    ]
    for suggestion in found:
        await _adopt(store, suggestion, rng, predecessors)
    return len(found)


async def _adopt(
    store: ObjectStore, suggestion: Json, rng: Rng, predecessors: Predecessors | None
) -> None:
    metadata = suggestion["metadata"]
    trials = await _trials(store, metadata["namespace"], metadata["name"])
    places = ordinals(suggestion, trials)
    for trial in trials:
        await _written(store, trial, places[trial["metadata"]["name"]])
    if predecessors is not None:
        await _retire(predecessors, suggestion, trials)
    await store.update_status(adopted_suggestion(suggestion, trials, _seed(suggestion, rng)))
    _log.info(
        "the search %s/%s was Katib's: adopted with %d trials",
        metadata["namespace"],
        metadata["name"],
        len(trials),
    )


async def _retire(predecessors: Predecessors, suggestion: Json, trials: Sequence[Json]) -> None:
    if not needs_its_service(suggestion, trials):
        metadata = suggestion["metadata"]
        key = Key("Suggestion", metadata["namespace"], metadata["name"])
        algorithm = (suggestion.get("spec") or {}).get("algorithm") or {}
        await predecessors.retire(key, str(algorithm.get("algorithmName", "")))


async def _trials(store: ObjectStore, namespace: str, experiment: str) -> list[Json]:
    labels = {names.LABEL_EXPERIMENT: experiment}
    return (await store.list("Trial", namespace=namespace, labels=labels)).items


async def _written(store: ObjectStore, trial: Json, ordinal: int) -> None:
    """Whoever else writes to it meanwhile: its status is theirs, the ordinal ours."""
    for _ in range(_TRIES):
        wanted = adopted_trial(trial, ordinal)
        if wanted is None:
            return
        try:
            await store.update(wanted)
            return
        except NotFound:
            return
        except Conflict:
            metadata = trial["metadata"]
            namespace, name = metadata["namespace"], metadata["name"]
            listed = await _trials(store, namespace, metadata["labels"][names.LABEL_EXPERIMENT])
            trial = next((t for t in listed if t["metadata"]["name"] == name), trial)
    raise Conflict(f"Trial {trial['metadata']['name']} is changed all the time")


def _seed(suggestion: Json, rng: Rng) -> int:
    """As for a search of our own: `random_state` where the user set one."""
    algorithm = (suggestion.get("spec") or {}).get("algorithm") or {}
    settings = {s.get("name"): s.get("value") for s in algorithm.get("algorithmSettings") or []}
    given = str(settings.get("random_state", ""))
    return int(given) if given.isdecimal() else rng.seed()
