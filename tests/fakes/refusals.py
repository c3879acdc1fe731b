# SPDX-License-Identifier: Apache-2.0
"""Cases for admission: an Experiment with places bent, and every sentence that is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import written
from written import SPEC, TEMPLATE, bent, parameter

from tunesmith_controller.admission.local import Refused, admit

Bend = tuple[written.Path, Any]

OBJECTIVE: written.Path = (*SPEC, "objective")
COLLECTOR: written.Path = (*SPEC, "metricsCollectorSpec")
FIRST: written.Path = (*SPEC, "parameters", 0)
SPACE: written.Path = (*FIRST, "feasibleSpace")
DECLARED: written.Path = (*TEMPLATE, "trialParameters")


@dataclass(frozen=True, slots=True)
class Case:
    told: tuple[str, ...]
    bends: tuple[Bend, ...]


def case(told: str | tuple[str, ...], *bends: Bend) -> Case:
    return Case((told,) if isinstance(told, str) else told, bends)


def space(type_: str, **bounds: Any) -> Bend:
    return FIRST, parameter("lr", type_, **bounds)


def collector(kind: str, **source: Any) -> Bend:
    return COLLECTOR, {"collector": {"kind": kind}, "source": source}


def declared(**fields: Any) -> Bend:
    return (*DECLARED, 0), {"name": "lr", "reference": "lr", **fields}


def point(**changes: Any) -> written.Json:
    values = {"lr": "0.05", "layers": "3", "width": "32", "optimizer": "adam", **changes}
    return {"parameterAssignments": [{"name": n, "value": v} for n, v in values.items()]}


def told(experiment: written.Json) -> list[str]:
    """What admission says against it; empty when it is admitted."""
    try:
        admit(experiment)
    except Refused as refused:
        return [str(error) for error in refused.errors]
    return []


def judged(case: Case) -> list[str]:
    """What admission says of an Experiment that is bent so."""
    given = written.experiment()
    for path, value in case.bends:
        bent(path, value, given)
    return told(given)


def ids(cases: list[Case]) -> list[str]:
    return [f"{number}-{case.told[0][:48]}" for number, case in enumerate(cases)]
