# SPDX-License-Identifier: Apache-2.0
"""What an algorithm is asked: a problem, its history, and the ordinals to propose for.

An algorithm's answer is a pure function of these (design: state is a fold over history), so they
are complete: space, settings, seed, outcomes, and the inputs recorded with a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tunesmith_api.search_space import SearchSpace, Value


class Direction(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True)
class Objective:
    """One metric to improve. `goal` ends the search when reached."""

    metric: str
    direction: Direction
    goal: float | None = None

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return a < b if self.direction is Direction.MINIMIZE else a > b

    def reached(self, value: float) -> bool:
        return self.goal is not None and not self.better(self.goal, value)

    def loss(self, value: float) -> float:
        """The value as something to minimise."""
        return value if self.direction is Direction.MINIMIZE else -value


@dataclass(frozen=True, slots=True)
class Problem:
    """An experiment as an algorithm sees it. `seed` is drawn once and recorded."""

    experiment_uid: str
    experiment_name: str
    algorithm: str
    settings: Mapping[str, str]
    space: SearchSpace
    objectives: tuple[Objective, ...]
    seed: int
    parallel: int = 1
    max_trials: int | None = None

    @property
    def objective(self) -> Objective:
        return self.objectives[0]


class OutcomeState(StrEnum):
    """How a trial ended. Algorithms learn from all of them."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EARLY_STOPPED = "earlyStopped"
    METRICS_UNAVAILABLE = "metricsUnavailable"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one ordinal; never changes once told. `values`: finite metrics by name."""

    ordinal: int
    parameters: Mapping[str, Value]
    state: OutcomeState
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposed ordinal whose outcome was not known when the batch was asked for."""

    ordinal: int
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class History:
    """All lower ordinals: outcomes and pending ones, each in ordinal order."""

    outcomes: tuple[Outcome, ...] = ()
    pending: tuple[Pending, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Assignments (typed values by name), one per asked ordinal from the first on; maybe fewer.

    `recorded` is what the algorithm fitted, as JSON text, or "" where nothing was; the controller
    stores it with the batch and hands it back later.
    """

    assignments: tuple[Mapping[str, Value], ...]
    recorded: str = ""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nothing is left to propose: the search ends in success, for this reason."""

    reason: str


def outcome_digest(
    ordinal: int, texts: Mapping[str, str], state: str, values: Mapping[str, float]
) -> int:
    """A 256-bit number for one outcome; the same on every machine."""
    canonical = json.dumps(
        [ordinal, sorted(texts.items()), state, sorted((k, repr(v)) for k, v in values.items())],
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big")


def history_digest(outcomes: Iterable[int]) -> str:
    """The name of a set of outcomes: a sum, so order and batching do not matter."""
    return f"{sum(outcomes) % (1 << 256):064x}"
