# SPDX-License-Identifier: Apache-2.0
"""`sensitive`: an algorithm whose every point depends on everything that it is told.

A forgotten outcome, a trial told twice or a batch cut elsewhere changes the points that follow, so
comparing points compares histories. Simulations use it where a real algorithm would hide mistakes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.registry import BUILT_IN, Registry
from tunesmith_suggestion.settings import RANDOM_STATE, Setting, SettingType
from tunesmith_suggestion.space import compile_space

POINTS = Setting("points", SettingType.INTEGER, None, "How many points there are.", at_least=1)


class SensitiveSearch:
    """Random points, keyed by the seed, the ordinal, the whole history and what was recorded."""

    name = "sensitive"
    version = "1"
    settings: Sequence[Setting] = (RANDOM_STATE, POINTS)

    def validate(self, problem: Problem) -> Sequence[str]:
        return []

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        last = int(problem.settings.get("points", ordinals.stop))
        ordinals = range(ordinals.start, min(ordinals.stop, last))
        if not ordinals:
            return Exhausted(f"there are only {last} points")
        told = digest(problem, history, recorded)
        space = compile_space(problem.space)
        name = f"{self.name}/{told}"
        points = (space.draw(generator(name, self.version, problem.seed, k)) for k in ordinals)
        return Proposal(tuple(points), recorded=json.dumps(told))


def digest(problem: Problem, history: History, recorded: str) -> str:
    """Names what was told, as far as it is the same in every life: states, points, objectives."""
    metric, space = problem.objective.metric, problem.space
    outcomes = [
        (o.ordinal, space.texts(o.parameters), o.state, repr(o.values.get(metric)))
        for o in history.outcomes
    ]
    pending = [(p.ordinal, space.texts(p.parameters)) for p in history.pending]
    text = json.dumps([outcomes, pending, recorded])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def registry() -> Registry:
    """Ours and `sensitive`, without other people's entry points."""
    return Registry({**BUILT_IN, "sensitive": SensitiveSearch}, dict)
