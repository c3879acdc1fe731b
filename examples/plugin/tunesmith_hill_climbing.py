# SPDX-License-Identifier: Apache-2.0
"""`hill-climbing`: random points, then steps around the best, shorter ones the longer nothing
better was found. An example of an algorithm in a package of its own."""

import numpy as np

from tunesmith_api.problem import History, Problem, Proposal
from tunesmith_api.search_space import Value
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.settings import Setting, SettingType, read_settings, setting_problems
from tunesmith_suggestion.space import Axis, ChoiceAxis, compile_space

STARTUP = Setting("n_startup_trials", SettingType.INTEGER, 8, "Random points first.", at_least=1)
RADIUS = Setting("radius", SettingType.NUMBER, 0.3, "First steps; 1 is a whole range.", above=0)


class HillClimbing:
    name, version = "hill-climbing", "1"  # another version when the same history gives other points
    settings = (STARTUP, RADIUS)

    def validate(self, problem: Problem) -> list[str]:
        return setting_problems(self.name, self.settings, problem.settings)

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal:
        given, space = (
            read_settings(self.name, self.settings, problem.settings),
            compile_space(problem.space),
        )
        metric, loss = problem.objective.metric, problem.objective.loss
        told = [o for o in history.outcomes if metric in o.values]
        best = min(told, key=lambda o: loss(o.values[metric]), default=None)
        found: list[dict[str, Value]] = []
        for k in ordinals:
            chance = generator(self.name, self.version, problem.seed, k)  # of k, never of calls
            if best is None or k < given.integer("n_startup_trials"):
                found.append(space.draw(chance))
                continue
            radius = max(given.number("radius") * 0.9 ** (len(told) - told.index(best)), 0.01)
            found.append(
                {a.name: near(a, best.parameters[a.name], radius, chance) for a in space.axes}
            )
        return Proposal(tuple(found))


def near(axis: Axis, value: Value, radius: float, chance: np.random.Generator) -> Value:
    """A step on the unit interval; `at` gives a value of the parameter, whatever its type."""
    if isinstance(axis, ChoiceAxis):
        return axis.at(chance.random()) if chance.random() < radius else value
    return axis.at(min(max(axis.position(value) + radius * chance.normal(), 0.0), 1.0))
