# SPDX-License-Identifier: Apache-2.0
"""`StoppingRules` for tests: "ceiling" stops a trial whose newest value is above its setting
`limit`, once `peers` trials (default 0) have succeeded."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_api.stopping import GO_ON, StopDecision, StopProblem


class CeilingRules:
    """Holds nothing back and remembers nothing."""

    def validate(self, problem: StopProblem) -> Sequence[str]:
        return [] if "limit" in problem.settings else ["limit must be given"]

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        return tuple(curve[-1:])

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        limit = float(problem.settings["limit"])
        if not curve or curve[-1] <= limit or len(peers) < int(problem.settings.get("peers", "0")):
            return GO_ON
        why = f"{problem.metric}={curve[-1]} is above {limit}"
        return StopDecision(True, why, curve[-1], limit, len(curve), len(peers))
