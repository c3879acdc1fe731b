# SPDX-License-Identifier: Apache-2.0
"""The model of one experiment: fitted when the schedule says so, otherwise as recorded.

`fitting` decides hyper-parameters, this module on what and from where, and what of it is written
down. The factor is that of the trials of the fit in ordinal order, later ones are added to it in
ordinal order: that order, and so every bit of an answer, follows from the record alone. Called by
`bayesian`.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from tunesmith_suggestion.algorithms.gaussian.factor import Factor
from tunesmith_suggestion.algorithms.gaussian.fitting import expected, fitted
from tunesmith_suggestion.algorithms.gaussian.kernel import Hyper, Kernel
from tunesmith_suggestion.algorithms.gaussian.posterior import Posterior
from tunesmith_suggestion.algorithms.gaussian.schedule import (
    MOST_FITTED,
    MOST_ROWS,
    fit_point,
    thinned,
)
from tunesmith_suggestion.algorithms.gaussian.trend import Trend
from tunesmith_suggestion.algorithms.gaussian.warping import targets
from tunesmith_suggestion.coordinates import Flags, Integers
from tunesmith_suggestion.space import Floats

_DECIMALS: Final = 3
"""Of the logarithms that are recorded: a thousandth of a length scale means nothing."""
_MOST_TEXT: Final = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """The trials a model learns from, in ordinal order: snapped rows, losses (infinite where the
    trial failed), and the ordinals that still run."""

    ordinals: Integers
    rows: Floats
    losses: Floats
    running: Integers
    is_choice: Flags

    def first(self, count: int) -> Told:
        return Told(
            self.ordinals[:count],
            self.rows[:count],
            self.losses[:count],
            self.running,
            self.is_choice,
        )

    def digest(self) -> bytes:
        found = hashlib.sha256()
        for part in (self.ordinals, self.rows, self.losses):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.digest()


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Hyper-parameters and the trials they were fitted on: those told up to ordinal `last`,
    without those that were running then."""

    hyper: Hyper
    last: int
    without: tuple[int, ...]

    def covers(self, ordinals: Integers) -> Flags:
        """Which trials it was fitted on."""
        found: Flags = (ordinals <= self.last) & ~np.isin(ordinals, self.without)
        return found

    def text(self) -> str:
        """For the record; empty where it would be too long, then it is fitted again."""
        found = json.dumps(
            {
                "last": self.last,
                "without": list(self.without),
                "hyper": [round(float(x), _DECIMALS) for x in self.hyper.vector()],
            },
            separators=(",", ":"),
        )
        return found if len(found) <= _MOST_TEXT else ""

    @classmethod
    def read(cls, text: str, columns: int) -> Fit | None:
        """None for what this version did not write, or wrote for another space."""
        try:
            found = json.loads(text) if text else None
        except ValueError:
            return None
        if not isinstance(found, dict):
            return None
        hyper, last, without = found.get("hyper"), found.get("last"), found.get("without")
        if not (_are_numbers(hyper, columns + 2) and isinstance(last, int)):
            return None
        if not (isinstance(without, list) and all(isinstance(x, int) for x in without)):
            return None
        return cls(Hyper.of(np.array(hyper, dtype=np.float64)), last, tuple(without))


def _are_numbers(found: object, count: int) -> bool:
    return (
        isinstance(found, list)
        and len(found) == count
        and all(isinstance(x, int | float) and math.isfinite(x) for x in found)
    )


V = TypeVar("V")


class Kept(Generic[V]):
    """The most recently used values. Safe from several threads; forgetting costs only time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[object, V] = OrderedDict()

    def get(self, key: object) -> V | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: object, value: V) -> None:
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)


class Models:
    """Fits and factors, kept by content."""

    def __init__(self) -> None:
        self._fits: Kept[Fit] = Kept(256)
        self._factors: Kept[_Grown] = Kept(8)

    def of(self, told: Told, recorded: str) -> tuple[Posterior, Fit]:
        """The posterior of what was told, and the fit it rests on.

        With a usable record that fit is the recorded one until the schedule wants another, which
        then starts from it. Without one it is that of the first trials up to the last point of
        the schedule, so later calls find it kept.
        """
        count = len(told.ordinals)
        before = Fit.read(recorded, told.rows.shape[1])
        if before is not None:
            covered = int(before.covers(told.ordinals).sum())
            fit = before if 0 < fit_point(count) <= covered else self._fit(told, before)
        else:
            fit = self._fit(told.first(fit_point(count)), None)
        return self._posterior(told, fit), fit

    def _fit(self, told: Told, before: Fit | None) -> Fit:
        key = (told.digest(), before and before.text())
        kept = self._fits.get(key)
        if kept is None:
            kept = _fit(told, before)
            self._fits.put(key, kept)
        return kept

    def _posterior(self, told: Told, fit: Fit) -> Posterior:
        covered = fit.covers(told.ordinals)
        base = np.flatnonzero(covered)
        base = base[thinned(targets(told.losses[base]), MOST_ROWS)]
        later = np.flatnonzero(~covered)
        factor = self._factor(told.is_choice, fit.hyper, told.rows[base], told.rows[later])
        order = np.concatenate([base, later])
        rows, wanted = told.rows[order], targets(told.losses)[order]
        return Posterior.of(factor, Trend.over(rows, told.is_choice), rows, wanted)

    def _factor(self, is_choice: Flags, hyper: Hyper, base: Floats, later: Floats) -> Factor:
        key = (
            is_choice.tobytes(),
            hyper.vector().tobytes(),
            hashlib.sha256(base.tobytes()).digest(),
        )
        kept = self._factors.get(key)
        if kept is None or not kept.begins(later):
            kept = _Grown(Factor.of(Kernel(is_choice, hyper), base), later[:0])
        for row in later[len(kept.later) :]:
            kept = _Grown(kept.factor.grown(row), np.concatenate([kept.later, row[None]]))
        self._factors.put(key, kept)
        return kept.factor


@dataclass(frozen=True, slots=True, eq=False)
class _Grown:
    factor: Factor
    later: Floats

    def begins(self, rows: Floats) -> bool:
        return np.array_equal(self.later, rows[: len(self.later)])


def _fit(told: Told, before: Fit | None) -> Fit:
    wanted = targets(told.losses)
    some = thinned(wanted, MOST_FITTED)
    starts = [expected(told.rows.shape[1])]
    if before is not None:
        starts.insert(0, before.hyper)
    rows = told.rows[some]
    surprises = wanted[some] - Trend.over(rows, told.is_choice).at(rows)
    hyper = fitted(rows, surprises, told.is_choice, starts)
    last = int(told.ordinals[-1])
    running = tuple(int(k) for k in told.running if k < last)
    return Fit(Hyper.of(hyper.vector().round(_DECIMALS)), last, running)
