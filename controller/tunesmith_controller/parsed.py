# SPDX-License-Identifier: Apache-2.0
"""Cached objects as models, read once per resourceVersion.

Reconcilers look at the same Experiment for each of its trials; reading it is most of such a look.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from tunesmith_api.resources import Experiment, Suggestion
from tunesmith_controller.ports import Json

REMEMBERED = 256
M = TypeVar("M", Experiment, Suggestion)


class Parsed:
    """Experiments and Suggestions of one manager; only a cache."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Experiment | Suggestion] = OrderedDict()

    def experiment(self, obj: Json) -> Experiment:
        """Raises pydantic.ValidationError, a ValueError."""
        found = self._known.get(_version(obj))
        return found if isinstance(found, Experiment) else self._read(Experiment, obj)

    def suggestion(self, obj: Json) -> Suggestion:
        """Raises pydantic.ValidationError, a ValueError."""
        found = self._known.get(_version(obj))
        return found if isinstance(found, Suggestion) else self._read(Suggestion, obj)

    def _read(self, model: type[M], obj: Json) -> M:
        read = model.parse(obj)
        self._known[_version(obj)] = read
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return read


def _version(obj: Json) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")
