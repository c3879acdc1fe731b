# SPDX-License-Identifier: Apache-2.0
"""Which column of a point is what to CMA-ES: continuous, a number in cells, or a category.

Rows are those of `coordinates`: positions in [0, 1], for a categorical parameter the index of its
choice. Called by `cmaes_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith_suggestion.coordinates import MOST_CELLS, Coordinates, Integers
from tunesmith_suggestion.space import Axis, ChoiceAxis, Floats

Flags = npt.NDArray[np.bool_]
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Cells:
    """A number with few values: where they are in [0, 1], and the edges between them."""

    values: Floats
    limits: Floats


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns by kind. The vector of the normal distribution is `continuous`, then `stepped`.

    Two values have no order worth learning, so numbers with two are categories, `pairs`; the
    categories are `choices`, then `pairs`. Numbers with very many values are continuous.
    """

    columns: int
    continuous: Integers
    stepped: Integers
    cells: tuple[Cells, ...]
    choices: Integers
    pairs: Integers
    pair_cells: tuple[Cells, ...]
    counts: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """The dimension of the normal distribution."""
        return len(self.continuous) + len(self.stepped)

    def categories(self, rows: Floats) -> Integers:
        """Rows x categories: the index of each category."""
        found = np.empty((len(rows), len(self.counts)), dtype=np.int64)
        found[:, : len(self.choices)] = rows[:, self.choices]
        for i, cells in enumerate(self.pair_cells, len(self.choices)):
            column = self.pairs[i - len(self.choices)]
            found[:, i] = np.searchsorted(cells.limits, rows[:, column])
        return found

    def row(self, inside: Floats, stepped: Floats, categories: Integers) -> Floats:
        """The row of continuous positions, positions of stepped values, and categories."""
        found = np.empty(self.columns)
        found[self.continuous] = inside
        found[self.stepped] = stepped
        found[self.choices] = categories[: len(self.choices)]
        chosen = categories[len(self.choices) :]
        found[self.pairs] = [
            cells.values[i] for cells, i in zip(self.pair_cells, chosen, strict=True)
        ]
        return found


def layout_of(coordinates: Coordinates) -> Layout:
    """Sorts the columns of a space."""
    axes = coordinates.axes
    kinds = [_kind(axis) for axis in axes]

    def columns(kind: str) -> Integers:
        return np.array([j for j, k in enumerate(kinds) if k == kind], dtype=np.int64)

    choices, stepped, pairs = columns("choice"), columns("stepped"), columns("pair")
    return Layout(
        len(axes),
        columns("continuous"),
        stepped,
        _cells([axes[j] for j in stepped]),
        choices,
        pairs,
        _cells([axes[j] for j in pairs]),
        (*(axes[j].count or 0 for j in choices), *(_PAIR for _ in pairs)),
    )


def _kind(axis: Axis) -> str:
    if isinstance(axis, ChoiceAxis):
        return "choice"
    if axis.count is None or axis.count > MOST_CELLS:
        return "continuous"
    return "pair" if axis.count == _PAIR else "stepped"


def _cells(axes: Sequence[Axis]) -> tuple[Cells, ...]:
    return tuple(
        Cells(
            np.array([axis.position(axis.value(i)) for i in range(axis.count or 0)]),
            np.array(axis.edges()[1:-1]),
        )
        for axis in axes
        if not isinstance(axis, ChoiceAxis)
    )
