# SPDX-License-Identifier: Apache-2.0
"""Our algorithms by name: `ours_peer.py multivariate-tpe`. Run by `efficiency`.

Asked as the controller does: outcomes in ordinal order, the newest fitted record handed back, one
`suggest` an ask.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from speak import Axis, Point, Search, Start, serve

from tunesmith_api.problem import (
    Direction,
    History,
    Objective,
    Outcome,
    OutcomeState,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    SearchSpace,
)
from tunesmith_suggestion.registry import Registry


class OurSearch:
    """One experiment, with the metric `loss`."""

    def __init__(self, name: str, start: Start) -> None:
        self._algorithm = Registry().find(name)
        self._problem = Problem(
            experiment_uid=f"benchmark-{start.seed}",
            experiment_name="benchmark",
            algorithm=name,
            settings={},
            space=SearchSpace(tuple(_parameter(axis) for axis in start.space)),
            objectives=(Objective("loss", Direction.MINIMIZE),),
            seed=start.seed,
            parallel=start.parallel,
            max_trials=start.trials,
        )
        if problems := self._algorithm.validate(self._problem):
            raise ValueError("; ".join(problems))
        self._outcomes: tuple[Outcome, ...] = ()
        self._recorded = ""

    def ask(self, count: int) -> list[Point]:
        first = len(self._outcomes)
        answer = self._algorithm.suggest(
            self._problem, History(self._outcomes), range(first, first + count), self._recorded
        )
        if not isinstance(answer, Proposal):
            raise TypeError(f"the search ended: {answer.reason}")
        self._recorded = answer.recorded or self._recorded
        return [dict(point) for point in answer.assignments]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        first = len(self._outcomes)
        self._outcomes += tuple(
            Outcome(first + i, point, OutcomeState.SUCCEEDED, {"loss": loss})
            for i, (point, loss) in enumerate(zip(points, losses, strict=True))
        )


def _parameter(axis: Axis) -> Parameter:
    spread = Distribution.LOG_UNIFORM if axis.log else Distribution.UNIFORM
    if axis.kind == "choice":
        return ListParameter(axis.name, axis.choices)
    if axis.kind == "int":
        return IntParameter(axis.name, int(axis.low), int(axis.high), distribution=spread)
    return DoubleParameter(axis.name, axis.low, axis.high, distribution=spread)


def main() -> None:
    name = sys.argv[1]

    def make(start: Start) -> Search:
        return OurSearch(name, start)

    serve(Registry().find(name).version, make)


if __name__ == "__main__":
    main()
