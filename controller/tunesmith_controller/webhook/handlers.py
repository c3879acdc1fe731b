# SPDX-License-Identifier: Apache-2.0
"""What is decided about each kind of object: the rules of `admission`, put to reviews.

Called by the server of webhooks. Experiments may need a ConfigMap to be read; pods need nothing but
what is on them, so no pod ever waits for another part of the cluster.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tunesmith_controller.admission import local
from tunesmith_controller.admission.collection import plan_of
from tunesmith_controller.admission.pods import InjectionSettings, inject
from tunesmith_controller.admission.stored import config_map_of
from tunesmith_controller.ports import Invalid, Json, ObjectStore, PortError
from tunesmith_controller.webhook.reviews import Review, allowed, refused
from tunesmith_controller.workloads.cluster_object import ANNOTATION_PRIMARY

_log = logging.getLogger(__name__)
_RULES: Final = "tunesmith_controller.admission.settings_rules"

Handler = Callable[[Review], Awaitable[Json]]
WorldOf = Callable[[], Awaitable[local.World]]
"""The cluster as admission sees it now. Raises Invalid, Unavailable."""


class ExperimentReviews:
    """Defaults and rules for Experiments."""

    def __init__(self, store: ObjectStore, world: WorldOf) -> None:
        self._store = store
        self._world = world

    async def warm(self) -> None:
        """Loads what the first Experiment would else wait for, longer than the API server does."""
        await asyncio.to_thread(importlib.import_module, _RULES)

    async def mutate(self, review: Review) -> Json:
        """Gives defaults. What is wrong is for `validate` to refuse, which sees what others have
        made of the object by then."""
        if _is_going(review.object):
            return allowed(review)
        try:
            return allowed(review, await self._admitted(review))
        except (local.Refused, PortError):
            return allowed(review)

    async def validate(self, review: Review) -> Json:
        """An object under deletion is let through, or it could never go."""
        if _is_going(review.object):
            return allowed(review)
        try:
            await self._admitted(review)
        except local.Refused as refusal:
            return refused(review, str(refusal), refusal.errors)
        except PortError as error:
            # The controller looks at every new Experiment once more.
            _log.warning("an Experiment was let through unseen: %s", error)
        return allowed(review)

    async def _admitted(self, review: Review) -> Json:
        """Raises Refused, PortError."""
        world = await self._world()
        if review.operation == "UPDATE" and review.old is not None:
            old = review.old
            return await asyncio.to_thread(
                lambda: local.admit_update(old, review.object, world=world)
            )
        found = await config_map_of(self._store, review.object)
        # On a thread: a large search space takes longer than a pod may wait.
        return await asyncio.to_thread(
            lambda: local.admit(
                review.object, config_map=lambda namespace, name: found, world=world
            )
        )


class PodReviews:
    """Collectors for trials' pods. Pure: no I/O, no state."""

    def __init__(self, settings: InjectionSettings | None) -> None:
        self._settings = settings

    async def mutate(self, review: Review) -> Json:
        """A pod that should have a collector and cannot is refused: a trial that nobody watches
        would run for nothing. Without settings no pod gets one."""
        if self._settings is None:
            return allowed(review)
        try:
            plan = plan_of(review.object)
            if plan is None or not _is_primary(review.object):
                return allowed(review)
            return allowed(review, inject(review.object, plan, self._settings))
        except Invalid as error:
            return refused(review, str(error))


def _is_going(obj: Json) -> bool:
    metadata = obj.get("metadata")
    return isinstance(metadata, dict) and bool(metadata.get("deletionTimestamp"))


def _is_primary(pod: Json) -> bool:
    """Whether it has the labels that its trial's primary pods have. Raises Invalid."""
    metadata = pod.get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(ANNOTATION_PRIMARY)
    if text is None:
        return True
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise Invalid(f"the annotation {ANNOTATION_PRIMARY} is no JSON object")
    labels = metadata.get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())
