# SPDX-License-Identifier: Apache-2.0
"""The client side of tunesmith.v1.Suggestions: what to tell a service that may remember.

A request names the history it is about by digest and carries what the service has not confirmed.
A service that lost its copy says so and is told everything, once. `grpc_suggestions` puts it on
the network; the simulation calls a service's core through it directly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.problem import Outcome, Problem, history_digest
from tunesmith_api.search_space import SearchSpace
from tunesmith_controller.ports import Ask, SearchEnded, Suggested
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.messages import (
    message_digest,
    outcome_message,
    pending_messages,
    problem_message,
)

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Outcomes in one request; more are told ahead in requests that ask for nothing."""
MAX_EXPERIMENTS: Final = 1000
"""Experiments whose confirmed history is remembered; others are told everything again."""


class SuggestionTransport(Protocol):
    """Carries messages. Both methods raise Invalid when refused and Unavailable otherwise."""

    async def validate(self, target: str, request: pb.ValidateRequest) -> pb.ValidateReply: ...

    async def suggest(self, target: str, request: pb.SuggestRequest) -> pb.SuggestReply: ...


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """What a service holds of an experiment: ordinals, and the sum of their digests."""

    ordinals: frozenset[int] = frozenset()
    total: int = 0

    @property
    def name(self) -> str:
        return history_digest((self.total,)) if self.ordinals else ""

    def plus(self, told: Sequence[pb.Outcome]) -> _Confirmed:
        return _Confirmed(
            self.ordinals | {message.ordinal for message in told},
            self.total + sum(message_digest(message) for message in told),
        )


_NOTHING: Final = _Confirmed()


class DeltaConversation:
    """Asks services over a transport, telling each outcome once as long as it is remembered."""

    def __init__(self, transport: SuggestionTransport, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._transport = transport
        self._chunk_bytes = chunk_bytes
        self._confirmed: OrderedDict[tuple[str, str], _Confirmed] = OrderedDict()

    async def validate(self, target: str, problem: Problem) -> Sequence[str]:
        request = pb.ValidateRequest(problem=problem_message(problem))
        return list((await self._transport.validate(target, request)).problems)

    async def suggest(self, target: str, ask: Ask) -> Suggested | SearchEnded:
        """Raises Invalid, Unavailable. Safe to repeat."""
        key = (target, ask.problem.experiment_uid)
        try:
            reply = await self._tell_and_ask(key, ask)
            if reply.history_lost:
                self._confirmed.pop(key, None)
                reply = await self._tell_and_ask(key, ask)
        except Invalid:
            self._confirmed.pop(key, None)
            raise
        if reply.history_lost:
            raise Unavailable(f"the service at {target} lost the history it had just been told")
        return _result(ask.problem.space, reply)

    async def _tell_and_ask(self, key: tuple[str, str], ask: Ask) -> pb.SuggestReply:
        confirmed, new = self._usable(key, ask.history.outcomes)
        chunks = list(_chunks(ask.problem.space, new, self._chunk_bytes))
        reply = pb.SuggestReply()
        for i, chunk in enumerate(chunks):
            after = confirmed.plus(chunk)
            history = pb.History(
                base_digest=confirmed.name,
                outcomes=chunk,
                digest=history_digest((after.total,)),
            )
            request = _request(ask, history, count=ask.count if i == len(chunks) - 1 else 0)
            reply = await self._transport.suggest(key[0], request)
            if reply.history_lost:
                return reply
            confirmed = after
            self._remember(key, confirmed)
        return reply

    def _usable(
        self, key: tuple[str, str], outcomes: Sequence[Outcome]
    ) -> tuple[_Confirmed, Sequence[Outcome]]:
        """What is confirmed and what is new; nothing and all when the ask is about an older
        history than the confirmed one."""
        confirmed = self._confirmed.get(key, _NOTHING)
        known = confirmed.ordinals
        new = [outcome for outcome in outcomes if outcome.ordinal not in known]
        if len(outcomes) - len(new) == len(known):
            return confirmed, new
        return _NOTHING, outcomes

    def _remember(self, key: tuple[str, str], confirmed: _Confirmed) -> None:
        self._confirmed[key] = confirmed
        self._confirmed.move_to_end(key)
        while len(self._confirmed) > MAX_EXPERIMENTS:
            self._confirmed.popitem(last=False)


def in_order(space: SearchSpace, texts: Mapping[str, str]) -> dict[str, str]:
    """An assignment in the order of the space; foreign names come last, to be refused by name."""
    known = {p.name: texts[p.name] for p in space if p.name in texts}
    return known | {name: texts[name] for name in sorted(texts) if name not in known}


def _chunks(
    space: SearchSpace, outcomes: Sequence[Outcome], limit: int
) -> Iterator[list[pb.Outcome]]:
    """At least one chunk; each within the limit unless one outcome alone is above it."""
    chunk: list[pb.Outcome] = []
    size = 0
    for outcome in outcomes:
        message = outcome_message(space, outcome)
        if chunk and size + message.ByteSize() > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += message.ByteSize()
    yield chunk


def _request(ask: Ask, history: pb.History, *, count: int) -> pb.SuggestRequest:
    return pb.SuggestRequest(
        problem=problem_message(ask.problem),
        request_id=ask.request_id,
        first_ordinal=ask.first_ordinal,
        count=count,
        pending=pending_messages(ask.problem.space, ask.history.pending) if count else (),
        history=history,
        recorded=ask.recorded,
    )


def _result(space: SearchSpace, reply: pb.SuggestReply) -> Suggested | SearchEnded:
    if reply.exhausted or not reply.assignments:
        return SearchEnded(reply.exhausted_reason or "the algorithm proposed nothing more")
    return Suggested(
        assignments=[in_order(space, dict(a.parameters)) for a in reply.assignments],
        algorithm_version=reply.algorithm_version,
        recorded=reply.recorded,
    )
