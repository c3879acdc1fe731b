# SPDX-License-Identifier: Apache-2.0
"""What a stopping rule is. Authors of other rules implement this and nothing else.

Register one under the entry-point group `tunesmith.earlystopping` (name -> zero-argument
callable), and prove it with `tunesmith_earlystopping.testing.StoppingRuleContract`. Called by
`core` (for the controller) and `katib` (for foreign controllers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tunesmith_api.stopping import StopDecision, StopProblem
from tunesmith_earlystopping.settings import Setting


class Comparison(StrEnum):
    EQUAL = "equal"
    LESS = "less"
    GREATER = "greater"


@dataclass(frozen=True, slots=True)
class TrialRule:
    """Katib's form of a rule, fixed for a trial's life and evaluated by its metrics collector: stop
    when the best value of `metric` so far compares so with `threshold`, at report `start_step`."""

    metric: str
    comparison: Comparison
    threshold: float
    start_step: int


class StoppingRule(Protocol):
    """Pure arithmetic: no gRPC, files, clocks, chance or logging set-up, and quick (the reconcilers
    do not wait for it). One instance serves many experiments from several threads.

    Curves are the objective's values in the order of their reports, NaN and infinities included.
    Apart from `validate`, a method may rely on a problem in which nothing is wrong, and raises
    ValueError on another one.
    """

    @property
    def name(self) -> str:
        """The `algorithmName` users write under `earlyStopping`."""
        ...

    @property
    def settings(self) -> Sequence[Setting]:
        """The settings it accepts; every other name is an error."""
        ...

    def validate(self, problem: StopProblem) -> Sequence[str]:
        """What is wrong with the settings, as sentences for their author; empty when nothing is.
        The metric and direction may be those of no experiment yet."""
        ...

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        """What the rule will ever need of an ended trial's curve; empty: it is no peer."""
        ...

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        """Whether a running trial should stop, and a sentence `why` when it should. `curve` is
        what it has reported so far, `peers` the digests of trials that succeeded, in any order."""
        ...

    def katib_rules(
        self, problem: StopProblem, peers: Sequence[Sequence[float]]
    ) -> Sequence[TrialRule]:
        """What to stamp on trials that are proposed now, for collectors that judge by themselves;
        empty when there is nothing to say yet, or the rule has no such form."""
        ...
