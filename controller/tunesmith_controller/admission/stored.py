# SPDX-License-Identifier: Apache-2.0
"""Admission that finds in the store what an Experiment refers to: the ConfigMap of its template.

Called by the API server, by `LocalPlane.submit` and by the webhooks of a cluster.
"""

from __future__ import annotations

from tunesmith_controller.admission import local
from tunesmith_controller.ports import Json, Key, NotFound, ObjectStore


async def admitted(
    store: ObjectStore, experiment: Json, *, world: local.World = local.LAPTOP
) -> Json:
    """The Experiment as it will be stored, with every default. Raises Refused, Unavailable."""
    found = await config_map_of(store, experiment)
    return local.admit(experiment, config_map=lambda namespace, name: found, world=world)


async def config_map_of(store: ObjectStore, experiment: Json) -> Json | None:
    """The ConfigMap that an Experiment's template names, if it names one that is there. Whatever
    is wrong with the Experiment is for admission to say."""
    found = experiment
    for name in ("spec", "trialTemplate", "configMap"):
        below = found.get(name)
        if not isinstance(below, dict):
            return None
        found = below
    where, which = found.get("configMapNamespace"), found.get("configMapName")
    if not isinstance(where, str) or not isinstance(which, str):
        return None
    try:
        return await store.get(Key("ConfigMap", where, which))
    except NotFound:
        return None
