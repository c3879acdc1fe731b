# SPDX-License-Identifier: Apache-2.0
"""Never the same point twice: what the setting `dedupe` adds to an algorithm.

Used by algorithms that draw points and may repeat them (random, tpe).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tunesmith_api.problem import History
from tunesmith_api.search_space import Value
from tunesmith_suggestion.space import CompiledSpace

_ATTEMPTS = 64
"""Draws before the space is walked instead; enough while most points are unseen."""


class Unseen:
    """The points of a space that were not proposed so far. Lives for one request."""

    def __init__(self, space: CompiledSpace, history: History) -> None:
        self._space = space
        self._seen = {space.key(o.parameters) for o in history.outcomes}
        self._seen |= {space.key(p.parameters) for p in history.pending}

    def __contains__(self, values: Mapping[str, Value]) -> bool:
        return self._space.key(values) not in self._seen

    def mark(self, values: Mapping[str, Value]) -> None:
        self._seen.add(self._space.key(values))

    def draw(self, chance: np.random.Generator) -> dict[str, Value] | None:
        """A random unseen point, None when there is none."""
        for _ in range(_ATTEMPTS):
            values = self._space.draw(chance)
            if values in self:
                return values
        return self._walk(chance) if self._space.count is not None else None

    def _walk(self, chance: np.random.Generator) -> dict[str, Value] | None:
        count = self._space.count or 0
        start = int(chance.random() * count)
        for step in range(count):
            values = self._space.point((start + step) % count)
            if values in self:
                return values
        return None

    @property
    def exhausted_reason(self) -> str:
        return f"all {self._space.count} points of the search space were tried"
