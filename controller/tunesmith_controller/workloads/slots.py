# SPDX-License-Identifier: Apache-2.0
"""Who may run now: the CPUs of one machine, given out in order of arrival.

`process.py` keeps one `CpuSlots`; it is memory only and rebuilt from the attempts' folders. CPUs
are counted in thousandths, as Kubernetes does ("500m"). The queue is strict: the first in it is
the next to start, so a large trial is not overtaken for ever by small ones.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Generic, TypeVar

Id = TypeVar("Id", bound=Hashable)

# The suffixes that make sense for CPUs; Kubernetes takes all of them everywhere.
_SCALES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(1000),
}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)([numk]?)")


def cpu_millis(quantity: object) -> int:
    """A Kubernetes CPU quantity (2, "500m", "1.5") in thousandths, rounded up.

    ValueError: it is none, or is not above zero.
    """
    matched = _QUANTITY.fullmatch(str(quantity))
    if matched is None or isinstance(quantity, bool):
        raise ValueError(f"{quantity!r} is no CPU quantity such as 2 or 500m")
    millis = Decimal(matched[1]) * _SCALES[matched[2]] * 1000
    if millis <= 0:
        raise ValueError(f"{quantity!r} is not above zero")
    return int(millis.to_integral_value(ROUND_CEILING))


def cpus_text(millis: int) -> str:
    """ "2", "0.5": for people."""
    return f"{millis / 1000:g}"


@dataclass(slots=True)
class CpuSlots(Generic[Id]):
    """Hands out `capacity` thousandths of CPUs."""

    capacity: int
    _held: dict[Id, int] = field(default_factory=dict)
    _queue: dict[Id, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """Never negative, though adopted attempts may hold more than there is."""
        return max(0, self.capacity - sum(self._held.values()))

    def hold(self, attempt: Id, millis: int) -> None:
        """Counts an attempt that runs already, whether it fits or not."""
        self._queue.pop(attempt, None)
        self._held[attempt] = self._clamped(millis)

    def wait(self, attempt: Id, millis: int) -> None:
        """Joins the end of the queue, unless it waits or holds already."""
        if attempt not in self._held:
            self._queue.setdefault(attempt, self._clamped(millis))

    def holds(self, attempt: Id) -> bool:
        return attempt in self._held

    def admit(self) -> list[Id]:
        """Those whose turn has come; they hold their CPUs from now on."""
        admitted = []
        for attempt, millis in list(self._queue.items()):
            if millis > self.free:
                break
            self.hold(attempt, millis)
            admitted.append(attempt)
        return admitted

    def release(self, attempt: Id) -> None:
        """Gives back what it holds or leaves the queue; nothing when it does neither."""
        self._held.pop(attempt, None)
        self._queue.pop(attempt, None)

    def why_waiting(self, attempt: Id) -> str | None:
        """ "waiting for 2 CPUs (1 of 4 free)"; None when it is not in the queue."""
        if attempt not in self._queue:
            return None
        wanted, ahead = self._queue[attempt], list(self._queue).index(attempt)
        unit = "CPU" if wanted == 1000 else "CPUs"
        room = f"{cpus_text(self.free)} of {cpus_text(self.capacity)} free"
        return f"waiting for {cpus_text(wanted)} {unit} ({room}{_queue_text(ahead)})"

    def _clamped(self, millis: int) -> int:
        return min(millis, self.capacity)


def _queue_text(ahead: int) -> str:
    return f", {ahead} ahead of it" if ahead else ""
