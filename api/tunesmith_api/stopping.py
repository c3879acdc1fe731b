# SPDX-License-Identifier: Apache-2.0
"""The nouns of early stopping, for rules (which judge) and the controller (which asks and acts)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunesmith_api.problem import Direction


@dataclass(frozen=True, slots=True)
class StopProblem:
    """What a rule is about: its name and settings (texts), the objective metric's direction."""

    rule: str
    metric: str
    direction: Direction
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StopDecision:
    """A verdict on a running trial. `value` was compared with `threshold` at `step` (reports are
    counted from 1), against `peers` ended trials; `why` is a sentence for people."""

    stop: bool
    why: str = ""
    value: float | None = None
    threshold: float | None = None
    step: int = 0
    peers: int = 0


GO_ON = StopDecision(False)
