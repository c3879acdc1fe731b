# SPDX-License-Identifier: Apache-2.0
"""The controller's `StoppingRules` port over the rules of this installation, in its own process.

Pure and without memory; a rule's arithmetic is too little to send over a wire.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.stopping import StopDecision, StopProblem
from tunesmith_earlystopping.registry import Registry, UnknownRule


class LocalRules:
    """Ours, and those that other packages registered. Safe from several threads."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or Registry()

    def names(self) -> list[str]:
        """What `earlyStopping.algorithmName` may be."""
        return self._registry.names()

    def validate(self, problem: StopProblem) -> Sequence[str]:
        """What is wrong with name or settings, one sentence each; empty when nothing is."""
        try:
            rule = self._registry.find(problem.rule)
        except UnknownRule as error:
            return [str(error)]
        return rule.validate(problem)

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        """Empty: an ended trial with this curve is no peer. Raises LookupError for an unknown
        rule, ValueError for settings in which something is wrong."""
        return self._registry.find(problem.rule).digest(problem, curve)

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        """Raises as `digest`."""
        return self._registry.find(problem.rule).judge(problem, curve, peers)
