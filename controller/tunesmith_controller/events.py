# SPDX-License-Identifier: Apache-2.0
"""Adapters of the Events port: what people are told, as log lines or kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tunesmith_controller.ports import Json

_log = logging.getLogger("tunesmith.events")


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    about: str
    type: str
    reason: str
    message: str


def subject(about: Json) -> str:
    """`Kind/namespace/name` of an object."""
    metadata = about.get("metadata", {})
    return f"{about.get('kind', '?')}/{metadata.get('namespace', '')}/{metadata.get('name', '')}"


class LoggedEvents:
    """Writes each event to the log `tunesmith.events`."""

    def record(self, about: Json, type_: str, reason: str, message: str) -> None:
        level = logging.WARNING if type_ == "Warning" else logging.INFO
        _log.log(level, "%s %s: %s", subject(about), reason, message)


HINDRANCES = frozenset({"Unavailable", "ReconcileError", "Quarantined", "NameConflict"})
"""Reasons of what keeps a controller from its work, where no status can say so."""

_REMEMBERED = 100


class SpokenEvents:
    """Logs each event, and tells whoever sits before the machine what hinders the controller, the
    same sentence once."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._log = LoggedEvents()
        self._said: dict[str, None] = {}

    def record(self, about: Json, type_: str, reason: str, message: str) -> None:
        self._log.record(about, type_, reason, message)
        if reason not in HINDRANCES or message in self._said:
            return
        if len(self._said) == _REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[message] = None
        self._notice(f"{subject(about)}: {message}")


@dataclass(slots=True)
class RememberedEvents:
    """Keeps the newest events in memory; for tests and for the simulation."""

    limit: int = 10_000
    told: list[Told] = field(default_factory=list)

    def record(self, about: Json, type_: str, reason: str, message: str) -> None:
        self.told.append(Told(subject(about), type_, reason, message))
        del self.told[: -self.limit]
