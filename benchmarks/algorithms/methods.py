# SPDX-License-Identifier: Apache-2.0
"""The methods that are compared, and on what. Called by `efficiency`, `runs` and `report`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from environments import HEBO, OPTUNA, SKOPT, SMAC, VIZIER, Environment

TRIALS: Final = 60
BATCH: Final = 8
MARKS: Final = (20, 40, 60)
SEEDS: Final = 10
FEW_SEEDS: Final = 3
FEW_PROBLEMS: Final = (
    "bbob-f2-d5",
    "bbob-f17-d5",
    "bbob-f12-d10",
    "mixint-f3-d10",
    "hpobench-vehicle",
    "hpolib-protein",
    "nasbench201-cifar10",
    "boosting-cancer",
)
"""For methods of seconds a suggestion. One of each family and kind of difficulty, fixed before
any result was known."""
QUICK_PROBLEMS: Final = (
    "bbob-f3-d5",
    "bbob-f20-d10",
    "mixint-f3-d10",
    "hpobench-vehicle",
    "nasbench201-cifar10",
    "mlp-wine",
)


class Mode(StrEnum):
    """How points are asked: one at a time, or eight, all told before the next eight."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel8"

    @property
    def batch(self) -> int:
        return BATCH if self is Mode.PARALLEL else 1


@dataclass(frozen=True, slots=True)
class Method:
    """`script` is a file of peers/ and its arguments. `few`: FEW_PROBLEMS and FEW_SEEDS only."""

    name: str
    script: tuple[str, ...]
    environment: Environment | None = None
    few: bool = False

    @property
    def ours(self) -> bool:
        return self.environment is None


def _our(name: str) -> Method:
    return Method(name, ("ours_peer.py", name))


def _optuna(name: str) -> Method:
    return Method(f"optuna-{name}", ("optuna_peer.py", name), OPTUNA)


METHODS: Final = {
    method.name: method
    for method in (
        _our("random"),
        _our("sobol"),
        _our("tpe"),
        _our("multivariate-tpe"),
        _our("bayesianoptimization"),
        _our("cmaes"),
        _our("auto"),
        _optuna("tpe"),
        _optuna("multivariate-tpe"),
        _optuna("cmaes"),
        _optuna("gp"),
        Method("skopt-gp", ("skopt_peer.py",), SKOPT, few=True),
        Method("hebo", ("hebo_peer.py",), HEBO, few=True),
        Method("smac-forest", ("smac_peer.py",), SMAC, few=True),
        Method("vizier-gp", ("vizier_peer.py",), VIZIER, few=True),
    )
}
BASELINES: Final = ("random", "sobol")
"""Of ours, but yardsticks: committed and reused as the peers' results are."""
