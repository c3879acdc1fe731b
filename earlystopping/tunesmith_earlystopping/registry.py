# SPDX-License-Identifier: Apache-2.0
"""Rules by name: ours in a literal table, other people's by entry point.

Another package adds one with the entry-point group `tunesmith.earlystopping`: name ->
zero-argument callable that gives a `StoppingRule`. Ours win a clash of names. Asked by `core` and
`katib`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from tunesmith_api.errors import Invalid
from tunesmith_api.field_errors import did_you_mean
from tunesmith_earlystopping.protocol import StoppingRule
from tunesmith_earlystopping.rules.medianstop import MedianStop

GROUP: Final = "tunesmith.earlystopping"

BUILT_IN: Final[Mapping[str, Callable[[], StoppingRule]]] = MappingProxyType(
    {"medianstop": MedianStop}
)


class UnknownRule(Invalid, LookupError):
    """No rule of this name can be had; the message is for the experiment's author."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def installed_entry_points() -> dict[str, EntryPoint]:
    """What other packages offer; reads package metadata, so it is asked for late."""
    return {point.name: point for point in entry_points(group=GROUP)}


class Registry:
    """Finds and keeps one instance a rule. Safe from several threads."""

    def __init__(
        self,
        built_in: Mapping[str, Callable[[], StoppingRule]] = BUILT_IN,
        others: Callable[[], Mapping[str, EntryPoint]] = installed_entry_points,
    ) -> None:
        self._built_in = built_in
        self._others = others
        self._made: dict[str, StoppingRule] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> StoppingRule:
        """Raises UnknownRule, with the names that are known, for any other."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def names(self) -> list[str]:
        return sorted({*self._built_in, *self._others()})

    def _make(self, name: str) -> StoppingRule:
        if name in self._built_in:
            return self._built_in[name]()
        point = self._others().get(name)
        if point is None:
            raise UnknownRule(name, self._unknown(name))
        try:
            made: StoppingRule = point.load()()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            message = f"stopping rule {name!r} ({point.value}) cannot be loaded: {reason}"
            raise UnknownRule(name, message) from error
        return made

    def _unknown(self, name: str) -> str:
        names = self.names()
        hint = did_you_mean(name, names)
        known = ", ".join(names)
        return f"unknown stopping rule {name!r}{hint and f'; {hint}'} (known: {known})"
