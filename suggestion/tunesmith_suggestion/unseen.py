# SPDX-License-Identifier: Apache-2.0
"""Which points of a space were proposed before, so that none comes twice.

`Unseen` is what the setting `dedupe` adds to an algorithm that draws points and may repeat them
(random, tpe, cmaes). `Tried` numbers the points of a growing history and reads only what is new:
for grid and auto, which look at all of it in every request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tunesmith_api.problem import History, Outcome, Problem
from tunesmith_api.search_space import Value
from tunesmith_suggestion.space import CompiledSpace

_ATTEMPTS = 64
"""Draws before the space is walked instead; enough while most points are unseen."""
_MOST_EXPERIMENTS = 128
_MOST_NUMBERS = 500_000
"""Of all experiments together, some 50 MiB; one experiment is kept whatever its size."""


class Unseen:
    """The points of a space that were not proposed so far. Lives for one request."""

    def __init__(self, space: CompiledSpace, history: History) -> None:
        self._space = space
        self._history = history
        self._marked: set[Hashable] = set()

    def __contains__(self, values: Mapping[str, Value]) -> bool:
        (key,) = self._space.keys([values])
        return key not in self._marked and key not in self._told

    def mark(self, values: Mapping[str, Value]) -> None:
        self._marked.update(self._space.keys([values]))

    def draw(self, chance: np.random.Generator) -> dict[str, Value] | None:
        """A random unseen point, None when there is none."""
        for _ in range(_ATTEMPTS):
            values = self._space.draw(chance)
            if values in self:
                return values
        return self._walk(chance) if self._space.count is not None else None

    @cached_property
    def _told(self) -> frozenset[Hashable]:
        """What the history holds; read when first needed, as not every request needs it."""
        points = [o.parameters for o in self._history.outcomes]
        points += [p.parameters for p in self._history.pending]
        return frozenset(self._space.keys(points))

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


@dataclass(frozen=True, slots=True)
class _Held:
    """Outcomes and the numbers of their points, in the same order."""

    outcomes: tuple[Outcome, ...] = ()
    numbers: tuple[int, ...] = ()
    distinct: frozenset[int] = frozenset()

    def extended(self, space: CompiledSpace, outcomes: tuple[Outcome, ...]) -> _Held:
        """The same for other outcomes; the common beginning is not read again."""
        same = len(self.outcomes)
        if self.outcomes != outcomes[:same]:
            pairs = zip(self.outcomes, outcomes, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(outcomes))
        elif same == len(outcomes):
            return self
        new = space.indices([o.parameters for o in outcomes[same:]])
        numbers = (*self.numbers[:same], *new)
        kept = self.distinct if same == len(self.outcomes) else numbers[:same]
        return _Held(outcomes, numbers, frozenset(new).union(kept))


class Tried:
    """The numbers (`CompiledSpace.indices`) of the points that histories of finite spaces hold.

    Remembers the most recently used experiments; losing that changes nothing but time. Safe from
    several threads.
    """

    def __init__(
        self, most_experiments: int = _MOST_EXPERIMENTS, most_numbers: int = _MOST_NUMBERS
    ) -> None:
        self._most_experiments = most_experiments
        self._most_numbers = most_numbers
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Hashable, ...], _Held] = OrderedDict()

    def of(self, problem: Problem, history: History, space: CompiledSpace) -> frozenset[int]:
        """The numbers of all points that ended or run. `space` is the problem's, and finite."""
        key = (problem.experiment_uid, space.space)
        with self._lock:
            held = self._held.get(key, _Held()).extended(space, history.outcomes)
            self._held[key] = held
            self._held.move_to_end(key)
            self._drop()
        running = space.indices([p.parameters for p in history.pending])
        return held.distinct.union(running) if running else held.distinct

    def _drop(self) -> None:
        size = sum(len(held.numbers) for held in self._held.values())
        while len(self._held) > self._most_experiments or (
            size > self._most_numbers and len(self._held) > 1
        ):
            size -= len(self._held.popitem(last=False)[1].numbers)
