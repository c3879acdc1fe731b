# SPDX-License-Identifier: Apache-2.0
"""What the service remembers of experiments, so that a request carries only what is new.

A copy may be dropped at any time: the client then hears `history_lost` and sends everything. Held
by `core`; the answer to a request depends on the history it names by digest, never on this memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import Outcome, history_digest
from tunesmith_api.search_space import SearchSpace
from tunesmith_proto.v1 import suggestions_pb2 as pb

_REMEMBERED_DIGESTS = 16
"""How many histories of one experiment can be named: duplicates and late requests stay cheap."""

EMPTY = history_digest(())
_MODULUS = 1 << 256
_BY_ORDINAL = attrgetter("ordinal")


@dataclass(frozen=True, slots=True)
class Told:
    """One outcome as told, with its digest."""

    outcome: Outcome
    digest: int


class HeldHistory:
    """The outcomes of one experiment, in the order of telling.

    Every history that can be named is a prefix of that log. A digest names a set of outcomes, so a
    repeated telling finds its history by name and changes nothing. Telling what is new costs what
    is new, however much was told before.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._lock = threading.Lock()
        self._log: list[Told] = []
        self._digests: dict[int, int] = {}
        self._sum = 0
        self._lengths: dict[str, int] = {}
        self._sorted: tuple[Outcome, ...] = ()
        self._last: tuple[bytes, pb.SuggestReply] | None = None

    @property
    def size(self) -> int:
        """Outcomes held."""
        return len(self._log)

    def apply(self, base: str, told: Iterable[Told], digest: str) -> tuple[Outcome, ...] | None:
        """The history named `digest`, in ordinal order: `base` ("" is nothing) plus `told`.

        Outcomes told before are the same objects as in earlier answers. None when the base is not
        held. Raises Invalid when the two do not make up `digest`.
        """
        with self._lock:
            digest = digest or EMPTY
            length = self._lengths.get(digest)
            if length is None:
                length = self._extend(base, told, digest)
            if length is None:
                return None
            if length == len(self._sorted) == len(self._log):
                return self._sorted
            return _in_order(self._log[:length])

    def remembered(self, identity: bytes, answer: Callable[[], pb.SuggestReply]) -> pb.SuggestReply:
        """The last answer again when the inputs are the same ones: a caller that gave up waiting
        for a slow fit finds it done."""
        with self._lock:
            if self._last is not None and self._last[0] == identity:
                return self._last[1]
        reply = answer()
        with self._lock:
            self._last = (identity, reply)
        return reply

    def _extend(self, base: str, told: Iterable[Told], digest: str) -> int | None:
        start = 0 if base in ("", EMPTY) else self._lengths.get(base)
        if start is None:
            return None
        before, total = self._at(start)
        new: dict[int, Told] = {}
        for one in told:
            ordinal = one.outcome.ordinal
            earlier = new[ordinal].digest if ordinal in new else before.get(ordinal, one.digest)
            if earlier != one.digest:
                raise Invalid(f"ordinal {ordinal} was told before with another outcome")
            if ordinal not in before:
                new[ordinal] = one
        total = (total + sum(one.digest for one in new.values())) % _MODULUS
        made = history_digest((total,))
        if made != digest:
            raise Invalid(f"the history told has the digest {made[:12]}..., not {digest[:12]}...")
        if new:
            self._keep(start, list(new.values()), total, digest)
        return start + len(new)

    def _at(self, length: int) -> tuple[dict[int, int], int]:
        """The digests by ordinal, and their sum, of the log's beginning."""
        if length == len(self._log):
            return self._digests, self._sum
        digests = {t.outcome.ordinal: t.digest for t in self._log[:length]}
        return digests, sum(digests.values()) % _MODULUS

    def _keep(self, start: int, new: list[Told], total: int, digest: str) -> None:
        """The log is its first `start` outcomes and the new ones."""
        if start != len(self._log):
            self._log = self._log[:start]
            self._digests = {t.outcome.ordinal: t.digest for t in self._log}
            self._sorted = _in_order(self._log)
            self._lengths = {name: n for name, n in self._lengths.items() if n <= start}
        self._log.extend(new)
        self._digests.update((t.outcome.ordinal, t.digest) for t in new)
        self._sum = total
        later = _in_order(new)
        if self._sorted and later[0].ordinal < self._sorted[-1].ordinal:
            self._sorted = tuple(sorted((*self._sorted, *later), key=_BY_ORDINAL))
        else:
            self._sorted += later
        self._lengths[digest] = len(self._log)
        while len(self._lengths) > _REMEMBERED_DIGESTS:
            del self._lengths[next(iter(self._lengths))]


def _in_order(told: Iterable[Told]) -> tuple[Outcome, ...]:
    return tuple(sorted((t.outcome for t in told), key=_BY_ORDINAL))


class Histories:
    """The most recently used experiments, by uid: at most so many, with so many outcomes in all.

    One experiment is held whatever its size.
    """

    def __init__(self, limit: int, most_outcomes: int) -> None:
        self._limit = limit
        self._most_outcomes = most_outcomes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, HeldHistory] = OrderedDict()

    def of(self, experiment_uid: str, space: SearchSpace) -> HeldHistory:
        """The copy for an experiment; an empty one when there is none or its space has changed."""
        with self._lock:
            held = self._held.get(experiment_uid)
            if held is None or held.space != space:
                held = self._held[experiment_uid] = HeldHistory(space)
            self._held.move_to_end(experiment_uid)
            outcomes = sum(one.size for one in self._held.values())
            while len(self._held) > self._limit or (
                outcomes > self._most_outcomes and len(self._held) > 1
            ):
                outcomes -= self._held.popitem(last=False)[1].size
            return held
