# SPDX-License-Identifier: Apache-2.0
"""What people are told when something does not work: what, where, why, and what to do next.

TunesmithError                  exit  what happened, and `hint`: the next command
├── InvalidExperiment           2     the file or object breaks rules; `faults` are all of them
├── ChangedExperiment           2     it exists with another spec; `diff` shows how
├── NotThere                    2     no such experiment, trial or file; `candidates` are near
├── NotPossible                 2     the experiment is in a state in which this has no effect
├── StateUnusable               3     the state cannot be read, locked or written
└── ServiceUnreachable          3     nobody accepts connections at the address of a service
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule: the field's path, a sentence, and the line of the file where known."""

    field: str
    message: str
    hint: str = ""
    line: int | None = None

    def sentence(self, source: str) -> str:
        """All of it in one line."""
        place = f"{source}:{self.line}" if self.line else source
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.message}{f' ({self.hint})' if self.hint else ''}"


def counted(count: int, what: str) -> str:
    """ "1 problem", "2 problems"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class TunesmithError(Exception):
    """Base of everything that a user may see."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidExperiment(TunesmithError):
    """The experiment breaks rules, or is no experiment at all (one fault without a field, which
    is then the whole message)."""

    exit_code = 2

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        self.is_unreadable = len(faults) == 1 and not faults[0].field
        super().__init__(self._sentence(), faults[0].hint if self.is_unreadable else "")

    def _sentence(self) -> str:
        if not self.is_unreadable:
            return f"{self.source}: {counted(len(self.faults), 'problem')}"
        fault = self.faults[0]
        place = f"{self.source}:{fault.line}" if fault.line else self.source
        return f"{place} {fault.message}"


class ChangedExperiment(TunesmithError):
    """An experiment of this name exists with another spec."""

    exit_code = 2

    def __init__(self, name: str, diff: str, extending: str = "") -> None:
        """extending: the command that makes the change without starting anew, where one does."""
        anew = "start anew with --fresh (deletes the existing trials), or rename the experiment"
        super().__init__(
            f"experiment {name} exists and its spec differs from this file",
            f"{extending} keeps what has been found; or {anew}" if extending else anew,
        )
        self.name = name
        self.diff = diff


class NotThere(TunesmithError):
    """Nothing has this name."""

    exit_code = 2

    def __init__(
        self, what: str, name: str, candidates: Sequence[str] = (), hint: str = "", why: str = ""
    ) -> None:
        near = f"; did you mean {' or '.join(candidates[:3])}?" if candidates else ""
        because = f": {why}" if why else ""
        super().__init__(f"there is no {what} {name!r}{because}{near}", hint)
        self.what = what
        self.name = name
        self.candidates = tuple(candidates)


class NotPossible(TunesmithError):
    """The experiment is in a state in which this has no effect; the message says which."""

    exit_code = 2


class StateUnusable(TunesmithError):
    """The state directory cannot be used, or its API does not answer."""

    exit_code = 3


class ServiceUnreachable(TunesmithError):
    """Nobody accepts connections at the address of a service."""

    exit_code = 3
