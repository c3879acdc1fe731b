# SPDX-License-Identifier: Apache-2.0
"""Points as rows of numbers, and a history as arrays: what model-based algorithms compute on.

A column is an axis of the compiled space that has more than one value. Numbers and ordered lists
are their position in [0, 1]; a categorical parameter is the index of its choice. Converting a
history costs only what is new since the last call: `Tables` remembers, and losing that changes
nothing but time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith_api.problem import History, Objective, Outcome, OutcomeState, Problem
from tunesmith_api.search_space import Value
from tunesmith_suggestion.space import Axis, ChoiceAxis, CompiledSpace, Floats, OrderedAxis

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_CELLS = 4096
"""A finite axis with more values than this is not snapped: its cells are finer than any model."""
_MOST_EXPERIMENTS = 128
_LEARNT = (OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED)


class Coordinates:
    """Converts points of one space to rows and back."""

    def __init__(self, space: CompiledSpace) -> None:
        self.space = space
        self.axes: tuple[Axis, ...] = tuple(axis for axis in space.axes if axis.count != 1)
        self._fixed = {axis.name: axis.value(0) for axis in space.axes if axis.count == 1}
        self._cells = [_cells(axis) for axis in self.axes]

    @property
    def is_choice(self) -> Flags:
        """Which columns are categorical."""
        return np.array([isinstance(axis, ChoiceAxis) for axis in self.axes], dtype=bool)

    def rows(self, points: Sequence[Mapping[str, Value]]) -> Floats:
        """Points x columns. A row depends on its own point only."""
        found = np.empty((len(points), len(self.axes)))
        for j, axis in enumerate(self.axes):
            column = [values[axis.name] for values in points]
            if isinstance(axis, ChoiceAxis):
                index = {text: float(i) for i, text in enumerate(axis.choices)}
                found[:, j] = [index[str(value)] for value in column]
            elif isinstance(axis, OrderedAxis):
                place = {text: axis.position(text) for text in axis.choices}
                found[:, j] = [place[str(value)] for value in column]
            else:
                found[:, j] = axis.positions(column)
        return found

    def point(self, row: Floats) -> dict[str, Value]:
        """The point of the space nearest to a row, all parameters in the order of the space."""
        moved = {
            axis.name: axis.value(_choice(u, axis.count))
            if isinstance(axis, ChoiceAxis)
            else axis.at(min(max(float(u), 0.0), 1.0))
            for axis, u in zip(self.axes, row, strict=True)
        }
        values = self._fixed | moved
        return {axis.name: values[axis.name] for axis in self.space.axes}

    def snap(self, rows: Floats) -> Floats:
        """Rows as they are once their points are written as values: what would be evaluated."""
        found = np.clip(rows, 0.0, 1.0)
        for j, (axis, cells) in enumerate(zip(self.axes, self._cells, strict=True)):
            if isinstance(axis, ChoiceAxis):
                found[:, j] = np.clip(np.floor(rows[:, j]), 0, axis.count - 1)
            elif cells is not None:
                inner, middles = cells
                found[:, j] = middles[np.searchsorted(inner, found[:, j], side="right")]
        return found


def _choice(u: float, count: int) -> int:
    return min(max(int(u), 0), count - 1)


def _cells(axis: Axis) -> tuple[Floats, Floats] | None:
    """The inner edges of a finite axis' cells and the positions of its values."""
    if isinstance(axis, ChoiceAxis) or axis.count is None or axis.count > MOST_CELLS:
        return None
    positions = [axis.position(axis.value(i)) for i in range(axis.count)]
    return np.array(axis.edges()[1:-1]), np.array(positions)


@dataclass(frozen=True, slots=True)
class Table:
    """A history in arrays, each part in ordinal order. Not to be written to.

    `losses` (of the first objective, smaller is better) are infinite for a trial that failed and
    NaN for one that teaches nothing (killed). `stopped` marks values of early-stopped trials.
    """

    coordinates: Coordinates
    ordinals: Integers
    rows: Floats
    losses: Floats
    stopped: Flags
    pending_ordinals: Integers
    pending_rows: Floats

    @property
    def finite(self) -> Flags:
        """Which trials have a loss."""
        found: Flags = np.isfinite(self.losses)
        return found


def loss_of(objective: Objective, outcome: Outcome) -> float:
    """Infinite for a trial that failed, NaN for one that teaches nothing (killed)."""
    value = outcome.values.get(objective.metric)
    if outcome.state in _LEARNT and value is not None:
        return objective.loss(value)
    return float("nan") if outcome.state is OutcomeState.KILLED else float("inf")


class Tables:
    """The tables of the most recently used experiments. Safe from several threads."""

    def __init__(self, limit: int = _MOST_EXPERIMENTS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[object, ...], _Held] = OrderedDict()

    def of(self, problem: Problem, history: History, space: CompiledSpace) -> Table:
        """The history as arrays; `space` is the problem's, compiled."""
        key = (problem.experiment_uid, problem.objective, space.space)
        with self._lock:
            held = self._held.get(key) or _nothing_held(space)
            held = self._held[key] = held.extended(problem.objective, history.outcomes)
            self._held.move_to_end(key)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        points = [p.parameters for p in history.pending]
        return Table(
            held.coordinates,
            held.ordinals,
            held.rows,
            held.losses,
            held.stopped,
            np.array([p.ordinal for p in history.pending], dtype=np.int64),
            held.coordinates.rows(points),
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """Outcomes and their arrays. What a table views is never overwritten."""

    coordinates: Coordinates
    outcomes: tuple[Outcome, ...]
    ordinals: Integers
    rows: Floats
    losses: Floats
    stopped: Flags

    def extended(self, objective: Objective, outcomes: tuple[Outcome, ...]) -> _Held:
        """The same for other outcomes; the common beginning is not converted again."""
        same = _common(self.outcomes, outcomes)
        if same == len(self.outcomes) == len(outcomes):
            return self
        new = outcomes[same:]
        return _Held(
            self.coordinates,
            outcomes,
            np.append(self.ordinals[:same], np.array([o.ordinal for o in new], dtype=np.int64)),
            np.concatenate([self.rows[:same], self.coordinates.rows([o.parameters for o in new])]),
            np.append(self.losses[:same], [loss_of(objective, o) for o in new]),
            np.append(
                self.stopped[:same],
                np.array([o.state is OutcomeState.EARLY_STOPPED for o in new], dtype=bool),
            ),
        )


def _nothing_held(space: CompiledSpace) -> _Held:
    coordinates = Coordinates(space)
    rows = np.empty((0, len(coordinates.axes)))
    none = np.empty(0, dtype=bool)
    return _Held(coordinates, (), np.empty(0, dtype=np.int64), rows, np.empty(0), none)


def _common(one: tuple[Outcome, ...], other: tuple[Outcome, ...]) -> int:
    """How many outcomes the two begin with alike."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(i for i in range(shorter) if one[i] != other[i])
