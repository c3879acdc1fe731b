# SPDX-License-Identifier: Apache-2.0
"""What one `KubernetesWorkloads` knows of attempts beyond the objects that the API has now.

All of it may be lost with the process: it saves requests and gives reasons. What must outlast a
controller is on the Trial.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tunesmith_controller.ports import Json

AttemptId = tuple[str, int]
"""Trial uid and number."""

_CLOSED_KEPT: Final = 20_000


@dataclass(slots=True)
class Attempt:
    """`seen`: its job was there. `last`: the job as it was when it went, if it was over then.
    `stopped`: it must not start any more. `refused`: why its job could not be created, until
    `retry_at` (loop time). `told`: what events say about why its pods do not start, which were
    last asked for at `asked_at`. `since`: when its job was first seen."""

    seen: bool = False
    last: Json | None = None
    stopped: bool = False
    refused: str = ""
    refusals: int = 0
    retry_at: float = 0.0
    told: str = ""
    since: float = 0.0
    asked_at: float = 0.0
    asked: int = 0


class Attempts:
    """By (trial uid, number); those that were released are remembered as closed for a while."""

    def __init__(self) -> None:
        self._open: dict[AttemptId, Attempt] = {}
        self._closed: OrderedDict[AttemptId, None] = OrderedDict()

    def get(self, attempt: AttemptId) -> Attempt:
        """What is known, which is nothing for a new one."""
        return self._open.get(attempt) or Attempt()

    def of(self, attempt: AttemptId) -> Attempt:
        """The same, to be changed."""
        return self._open.setdefault(attempt, Attempt())

    def close(self, attempt: AttemptId) -> None:
        self._open.pop(attempt, None)
        self._closed[attempt] = None
        if len(self._closed) > _CLOSED_KEPT:
            self._closed.popitem(last=False)

    def is_unwanted(self, attempt: AttemptId) -> bool:
        """Whether a job of it has no right to be there."""
        return attempt in self._closed or self.get(attempt).stopped

    def forget(self, trial_uid: str) -> None:
        for attempt in [each for each in self._open if each[0] == trial_uid]:
            self.close(attempt)
