# SPDX-License-Identifier: Apache-2.0
"""One request to a Parzen estimator: a point an ordinal, each knowing the earlier ones.

What to try comes from a `Proposer`: our own model here, Optuna's in `optuna_backend`. A point is
not proposed again while a finite space has others: with as little noise as most trainings have, a
repeat teaches next to nothing. Called by `tpe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from tunesmith_api.problem import Exhausted, History, Proposal
from tunesmith_api.search_space import Value
from tunesmith_suggestion.algorithms.tpe_model import Model
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.coordinates import Table
from tunesmith_suggestion.space import CompiledSpace, Floats
from tunesmith_suggestion.unseen import Unseen

_ROUNDS: Final = 4
"""How often candidates are drawn while all are points that were tried."""


class Proposer(Protocol):
    def offers(self, ordinal: int) -> Iterator[Mapping[str, Value]]:
        """Points for an ordinal, at least one, the most promising first."""
        ...

    def took(self, values: Mapping[str, Value]) -> None:
        """A point that runs from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """Whose chance it is."""

    algorithm: str
    version: str
    seed: int

    def of(self, ordinal: int, purpose: str = "") -> np.random.Generator:
        return generator(self.algorithm + purpose, self.version, self.seed, ordinal)

    def start(self, ordinal: int, count: int, dimensions: int) -> Floats:
        """A point of a Latin hypercube: in every column, each block of `count` ordinals has one
        point in each `count`-th of [0, 1]."""
        order = self.of(ordinal // count, "/start").random((count, dimensions))
        ranks = np.argsort(order, axis=0)[ordinal % count]
        found: Floats = (ranks + self.of(ordinal).random(dimensions)) / count
        return found


class ParzenProposer:
    """Offers of a model; evenly spread points where there is none, or while fewer than
    `startup` trials have a result or run."""

    def __init__(
        self, model: Model | None, space: CompiledSpace, table: Table, stream: Stream, startup: int
    ) -> None:
        self._model = model
        self._axes = space.axes
        self._coordinates = table.coordinates
        self._pending = table.pending_rows
        self._stream = stream
        self._block = max(startup, 1)
        self._wanted = startup - int(table.finite.sum())

    def offers(self, ordinal: int) -> Iterator[Mapping[str, Value]]:
        if self._model is None or len(self._pending) < self._wanted:
            yield self._start(ordinal)
            return
        chance = self._stream.of(ordinal)
        for _ in range(_ROUNDS):
            for row in self._model.ranked(chance, self._pending):
                yield self._coordinates.point(row)

    def took(self, values: Mapping[str, Value]) -> None:
        self._pending = np.concatenate([self._pending, self._coordinates.rows([values])])

    def _start(self, ordinal: int) -> Mapping[str, Value]:
        row = self._stream.start(ordinal, self._block, len(self._axes))
        return {axis.name: axis.at(float(u)) for axis, u in zip(self._axes, row, strict=True)}


class Search:
    """Proposes points that are new. `once`: the search ends where there are none."""

    def __init__(
        self, space: CompiledSpace, table: Table, history: History, stream: Stream, once: bool
    ) -> None:
        self._space = space
        self._coordinates = table.coordinates
        self._history = history
        self._stream = stream
        self._once = once
        self._is_used_up = False
        self._tried = table.rows
        self._pending = table.pending_rows
        self._found: list[Mapping[str, Value]] = []
        self._made_unseen: Unseen | None = None

    def batch(self, proposer: Proposer, ordinals: range) -> Proposal | Exhausted:
        """A point an ordinal; fewer when all points were tried and none may be tried again."""
        for ordinal in ordinals:
            values = self._next(proposer, ordinal)
            if values is None:
                break
            proposer.took(values)
            self._took(values)
        if not self._found:
            return Exhausted(self._unseen.exhausted_reason)
        return Proposal(tuple(self._found))

    def _next(self, proposer: Proposer, ordinal: int) -> Mapping[str, Value] | None:
        if not (self._once or self._is_used_up):
            self._is_used_up = _are_all(self._space, self._tried, self._pending)
        avoided = (self._pending,) if self._is_used_up else (self._tried, self._pending)
        first: Mapping[str, Value] | None = None
        for values in proposer.offers(ordinal):
            if self._is_new(values, avoided):
                return values
            first = values if first is None else first
        if self._is_used_up:
            return first
        drawn = self._unseen.draw(self._stream.of(ordinal, "/new"))
        return first if drawn is None and not self._once else drawn

    def _is_new(self, values: Mapping[str, Value], avoided: Iterable[Floats]) -> bool:
        """Compares rows, which are at hand. In a continuum points hardly ever meet."""
        if self._space.count is None:
            return True
        row = self._coordinates.rows([values])
        return not any((rows == row).all(axis=1).any() for rows in avoided)

    def _took(self, values: Mapping[str, Value]) -> None:
        self._found.append(values)
        if self._space.count is not None:
            self._pending = np.concatenate([self._pending, self._coordinates.rows([values])])
        if self._made_unseen is not None:
            self._made_unseen.mark(values)

    @property
    def _unseen(self) -> Unseen:
        """Made when first needed, which is seldom: it takes a walk over the history."""
        if self._made_unseen is None:
            self._made_unseen = Unseen(self._space, self._history)
            for values in self._found:
                self._made_unseen.mark(values)
        return self._made_unseen


def _are_all(space: CompiledSpace, tried: Floats, pending: Floats) -> bool:
    """Whether these are all points of the space."""
    if space.count is None or len(tried) + len(pending) < space.count:
        return False
    return len(np.unique(np.concatenate([tried, pending]), axis=0)) >= space.count
