# SPDX-License-Identifier: Apache-2.0
"""Optuna's samplers: `optuna_peer.py tpe|multivariate-tpe|cmaes|gp`. Run by `efficiency`."""

from __future__ import annotations

import contextlib
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import optuna
from speak import Axis, Point, Start, serve


def _tpe(start: Start) -> Any:
    """The default of Optuna 4 and older; lies for running trials where there are any."""
    liar = start.parallel > 1
    return optuna.samplers.TPESampler(seed=start.seed, multivariate=False, constant_liar=liar)


def _multivariate_tpe(start: Start) -> Any:
    liar = start.parallel > 1
    return optuna.samplers.TPESampler(seed=start.seed, multivariate=True, constant_liar=liar)


def _cmaes(start: Start) -> Any:
    return optuna.samplers.CmaEsSampler(seed=start.seed)


def _gp(start: Start) -> Any:
    _old_torch()
    return optuna.samplers.GPSampler(seed=start.seed)


def _old_torch() -> None:
    """Before 2.0 a `torch.device` is no context manager; without a GPU it need not do anything."""
    torch = import_module("torch")
    if int(torch.__version__.split(".")[0]) >= 2:
        return

    class Proxy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def device(*_: Any) -> Any:
            return contextlib.nullcontext()

    import_module("optuna.samplers._gp.sampler").__dict__["torch"] = Proxy("torch")


SAMPLERS: dict[str, Callable[[Start], Any]] = {
    "tpe": _tpe,
    "multivariate-tpe": _multivariate_tpe,
    "cmaes": _cmaes,
    "gp": _gp,
}


class OptunaSearch:
    """A study in memory, asked with the whole space at once."""

    def __init__(self, start: Start, sampler: Any) -> None:
        self._study = optuna.create_study(sampler=sampler)
        self._space = {axis.name: _distribution(axis) for axis in start.space}
        self._running: list[Any] = []

    def ask(self, count: int) -> list[Point]:
        self._running = [self._study.ask(self._space) for _ in range(count)]
        return [dict(trial.params) for trial in self._running]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        for trial, loss in zip(self._running, losses, strict=True):
            self._study.tell(trial, loss)


def _distribution(axis: Axis) -> Any:
    if axis.kind == "choice":
        return optuna.distributions.CategoricalDistribution(axis.choices)
    if axis.kind == "int":
        low, high = int(axis.low), int(axis.high)
        return optuna.distributions.IntDistribution(low, high, log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    sampler = SAMPLERS[sys.argv[1]]
    if sys.argv[1] == "gp":
        import_module("optuna.samplers._gp.sampler")
        import_module("torch")
    serve(optuna.__version__, lambda start: OptunaSearch(start, sampler(start)))


if __name__ == "__main__":
    main()
