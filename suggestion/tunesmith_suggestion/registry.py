# SPDX-License-Identifier: Apache-2.0
"""Algorithms by name: ours in a literal table, other people's by entry point.

Another package adds one with the entry-point group `tunesmith.algorithms`: name -> zero-argument
callable that gives an `Algorithm`. Ours win a clash of names. Asked by `core` and `katib`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from tunesmith_api.errors import Invalid
from tunesmith_suggestion.protocol import Algorithm

GROUP: Final = "tunesmith.algorithms"
_OURS: Final = "tunesmith_suggestion.algorithms"


def _ours(module: str, name: str) -> Callable[[], Algorithm]:
    """Imported when first asked for: a service that runs `random` never pays for `scipy`."""

    def made() -> Algorithm:
        found: Algorithm = getattr(import_module(f"{_OURS}.{module}"), name)()
        return found

    return made


BUILT_IN: Final[Mapping[str, Callable[[], Algorithm]]] = MappingProxyType(
    {
        "auto": _ours("auto", "Auto"),
        "bayesianoptimization": _ours("bayesian", "BayesianOptimization"),
        "cmaes": _ours("cmaes", "CmaEs"),
        "grid": _ours("grid", "GridSearch"),
        "multivariate-tpe": _ours("multivariate_tpe", "MultivariateTpe"),
        "random": _ours("random", "RandomSearch"),
        "sobol": _ours("sobol", "SobolSearch"),
        "tpe": _ours("tpe", "Tpe"),
    }
)


def installed_entry_points() -> dict[str, EntryPoint]:
    """What other packages offer; reads package metadata, so it is asked for once and late."""
    return {point.name: point for point in entry_points(group=GROUP)}


class Registry:
    """Finds and keeps one instance an algorithm. Safe from several threads."""

    def __init__(
        self,
        built_in: Mapping[str, Callable[[], Algorithm]] = BUILT_IN,
        others: Callable[[], Mapping[str, EntryPoint]] = installed_entry_points,
    ) -> None:
        self._built_in = built_in
        self._others = others
        self._made: dict[str, Algorithm] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Algorithm:
        """Raises Invalid, with the names that are known, for any other."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def names(self) -> list[str]:
        return sorted({*self._built_in, *self._others()})

    def _make(self, name: str) -> Algorithm:
        if name in self._built_in:
            return self._built_in[name]()
        point = self._others().get(name)
        if point is None:
            known = ", ".join(self.names())
            raise Invalid(f"unknown algorithm {name!r} (known: {known})")
        try:
            made: Algorithm = point.load()()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise Invalid(
                f"algorithm {name!r} ({point.value}) cannot be loaded: {reason}"
            ) from error
        return made
