# SPDX-License-Identifier: Apache-2.0
"""Faults at numbered calls: what can go wrong, and a plan that says what goes wrong where.

Every call of a controller is a numbered step, over all its lives. `lives` asks the plan at each
step and carries out what it says; `schedules` draws plans; `test_crash_points` enumerates them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What goes wrong. LATE: the caller hears that it failed, and then it takes effect. OVERLAP: a
    second controller starts while the first one goes on for some seconds. From LOSE_JOB on it
    happens to the world, at the moment of a call."""

    CRASH = "crash"
    ERROR = "error"
    CONFLICT = "conflict"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    LATE = "late"
    OVERLAP = "overlap"
    DROP = "watch drop"
    EXPIRE = "watch expired"
    LOSE_JOB = "job lost"
    VANISH_JOB = "job vanished"
    FORGET = "service restarted"
    PAUSE = "paused by a person"
    PARALLEL = "parallelism changed by a person"
    STOP = "stopped by a person, and resumed"
    DELETE_TRIAL = "trial deleted by a person"
    DELETE_ALL = "experiment deleted by a person"

    @property
    def is_of_world(self) -> bool:
        return self in _OF_WORLD


_OF_WORLD: Final = frozenset(
    {
        *(Kind.LOSE_JOB, Kind.VANISH_JOB, Kind.FORGET, Kind.PAUSE),
        *(Kind.PARALLEL, Kind.STOP, Kind.DELETE_TRIAL, Kind.DELETE_ALL),
    }
)


class Place(StrEnum):
    """BEFORE: the call has no effect. LOST: it has, but nobody hears. AFTER: the answer arrives
    and then it happens (crashes only; an error cannot come after an answer)."""

    BEFORE = "before"
    LOST = "lost"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, at step `at` or at the first later one that it can happen to. `seconds` is how
    long, virtually, a delay, a pause, a stop or an overlap lasts, and how late a late effect is."""

    at: int
    kind: Kind
    place: Place = Place.BEFORE
    seconds: float = 0.0

    def __str__(self) -> str:
        text = f"{self.kind} {self.place} step {self.at}"
        return f"{text} for {self.seconds} s" if self.seconds else text


@dataclass(frozen=True, slots=True)
class Step:
    """One call, or one thing that a stream tells (`is_told`)."""

    number: int
    life: int
    time: float
    port: str
    method: str
    subject: str
    is_told: bool = False

    def __str__(self) -> str:
        told = " tells" if self.is_told else ""
        return (
            f"{self.number:5} life {self.life} {self.time:9.3f} s "
            f"{self.port}.{self.method}{told} {self.subject}"
        )


_WRITES: Final = frozenset({"update", "update_status", "patch", "delete"})


def can_happen(fault: Fault, step: Step) -> bool:
    """Whether a step can suffer a fault of this kind."""
    match fault.kind:
        case Kind.DROP:
            return step.is_told
        case Kind.EXPIRE:
            return step.is_told and step.method == "watch"
        case Kind.CONFLICT:
            return step.port == "store" and step.method in _WRITES
        case Kind.DUPLICATE:
            return step.port == "suggestions"
        case Kind.CRASH | Kind.ERROR | Kind.LATE | Kind.OVERLAP:
            return not step.is_told
        case _:
            return True


class FaultPlan:
    """Numbers steps, from 1, and hands out each fault once.

    `fired` says what hit what. `moments` names the state of the world at which a crash would come,
    by call and place: crashes at the same moment are the same crash.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._waiting = sorted(faults, key=lambda fault: fault.at)
        self.steps: list[Step] = []
        self.fired: list[tuple[Fault, Step]] = []
        self.moments: dict[tuple[int, Place], object] = {}

    def step(
        self, life: int, port: str, method: str, subject: str, *, is_told: bool = False
    ) -> Fault | None:
        """Takes down the next step; the fault that happens to it, if any."""
        now = asyncio.get_running_loop().time()
        step = Step(len(self.steps) + 1, life, now, port, method, subject, is_told)
        self.steps.append(step)
        for fault in self._waiting:
            if fault.at > step.number:
                return None
            if can_happen(fault, step):
                self._waiting.remove(fault)
                self.fired.append((fault, step))
                return fault
        return None

    def calls(self) -> list[int]:
        """The numbers of steps that are calls."""
        return [step.number for step in self.steps if not step.is_told]
