# SPDX-License-Identifier: Apache-2.0
"""Digests of ended trials for Katib's requests, remembered: an ended trial's log never changes.

Katib's controller sends all trials with every request; each log is read once. Losing what is
remembered costs time only. Used by `katib`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tunesmith_api.stopping import StopProblem
from tunesmith_earlystopping.db_manager import read_curves
from tunesmith_proto.katib import api_pb2 as pb

MAX_REMEMBERED: Final = 10_000
"""Trials, of all experiments; the ones asked for longest ago go first."""

Digest = Sequence[float]
_Key = tuple[object, ...]


class Peers:
    """To be used on one event loop."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._digests: OrderedDict[_Key, Digest] = OrderedDict()

    async def digests(
        self,
        address: str,
        problem: StopProblem,
        trials: Iterable[pb.Trial],
        digest: Callable[[StopProblem, Sequence[float]], Digest],
        *,
        seconds: float,
    ) -> list[Digest]:
        """Of the trials that succeeded and have a digest. Raises as `read_curves`."""
        asked = (address, problem.rule, problem.metric, tuple(sorted(problem.settings.items())))
        keys: dict[str, _Key] = {
            trial.name: (*asked, trial.name, trial.status.start_time, trial.status.completion_time)
            for trial in trials
            if trial.status.condition == pb.TrialStatus.SUCCEEDED
        }
        found: dict[str, Digest] = {}
        for name, key in keys.items():
            if key in self._digests:
                self._digests.move_to_end(key)
                found[name] = self._digests[key]

        def keep(name: str, curve: Sequence[float]) -> None:
            found[name] = digest(problem, curve)
            if found[name]:
                self._remember(keys[name], found[name])

        missing = [name for name in keys if name not in found]
        await read_curves(address, problem.metric, missing, keep, seconds=seconds)
        return [found[name] for name in keys if found.get(name)]

    def _remember(self, key: _Key, digest: Digest) -> None:
        self._digests[key] = digest
        while len(self._digests) > self._most:
            self._digests.popitem(last=False)
