# SPDX-License-Identifier: Apache-2.0
"""What the client tells a service: every outcome once, everything again to one that forgot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.problem import History
from tunesmith_controller.hosts.delta import DeltaConversation
from tunesmith_controller.ports import Ask, SearchEnded, Suggested
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.testing import SPACE, a_history, a_problem

OUTCOMES = a_history(SPACE, 30).outcomes


def ask(told: int, count: int = 2, uid: str = "uid-1") -> Ask:
    problem = a_problem("random", uid=uid)
    return Ask(f"{uid}/{told}", problem, History(OUTCOMES[:told]), told, count)


class Watched:
    """A transport into a core that notes the ordinals of each request."""

    def __init__(self) -> None:
        self.core = SuggestionCore()
        self.told: list[list[int]] = []
        self.sizes: list[int] = []
        self.broken = False
        self.forgetful = False

    async def validate(self, target: str, request: pb.ValidateRequest) -> pb.ValidateReply:
        return self.core.validate(request)

    async def suggest(self, target: str, request: pb.SuggestRequest) -> pb.SuggestReply:
        self.told.append([message.ordinal for message in request.history.outcomes])
        self.sizes.append(request.ByteSize())
        if self.forgetful:
            return pb.SuggestReply(history_lost=True)
        reply = self.core.suggest(request)
        if self.broken:
            raise Unavailable("the reply was lost")
        return reply


def converse(conversation: DeltaConversation, asks: Sequence[Ask]) -> list[Suggested | SearchEnded]:
    async def talk() -> list[Suggested | SearchEnded]:
        return [await conversation.suggest("target", one) for one in asks]

    return asyncio.run(talk())


def test_an_outcome_is_told_once() -> None:
    watched = Watched()
    converse(DeltaConversation(watched), [ask(2), ask(5), ask(5), ask(7)])
    assert watched.told == [[0, 1], [2, 3, 4], [], [5, 6]]


def test_experiments_are_told_apart() -> None:
    watched = Watched()
    converse(DeltaConversation(watched), [ask(2), ask(2, uid="other"), ask(3)])
    assert watched.told == [[0, 1], [0, 1], [2]]


def test_a_service_that_forgot_is_told_everything_once() -> None:
    watched = Watched()
    conversation = DeltaConversation(watched)
    converse(conversation, [ask(3)])
    watched.core = SuggestionCore()
    converse(conversation, [ask(4), ask(5)])
    assert watched.told == [[0, 1, 2], [3], [0, 1, 2, 3], [4]]


def test_a_service_that_always_forgets_is_unavailable() -> None:
    watched = Watched()
    watched.forgetful = True
    with pytest.raises(Unavailable, match="lost the history it had just been told"):
        converse(DeltaConversation(watched), [ask(3)])
    assert len(watched.told) == 2


def test_after_a_lost_reply_the_outcomes_are_told_again() -> None:
    watched = Watched()
    conversation = DeltaConversation(watched)
    converse(conversation, [ask(2)])
    watched.broken = True
    with pytest.raises(Unavailable):
        converse(conversation, [ask(4)])
    watched.broken = False
    assert converse(conversation, [ask(4)]) == converse(DeltaConversation(Watched()), [ask(4)])
    assert watched.told == [[0, 1], [2, 3], [2, 3]]


def test_a_question_about_an_older_history_is_asked_in_full() -> None:
    watched = Watched()
    converse(DeltaConversation(watched), [ask(5), ask(3), ask(6)])
    assert watched.told == [[0, 1, 2, 3, 4], [0, 1, 2], [3, 4, 5]]


def test_a_long_history_is_told_in_several_requests() -> None:
    watched, whole = Watched(), Watched()
    answers = converse(DeltaConversation(watched, chunk_bytes=2000), [ask(30)])
    assert answers == converse(DeltaConversation(whole), [ask(30)])
    assert len(watched.told) > 2
    assert [ordinal for told in watched.told for ordinal in told] == list(range(30))
    assert max(watched.sizes) < 4000 < whole.sizes[0]


def test_a_refused_question_begins_anew() -> None:
    watched = Watched()
    conversation = DeltaConversation(watched)
    converse(conversation, [ask(2)])
    with pytest.raises(Invalid, match="at most 1000"):
        converse(conversation, [ask(3, count=2000)])
    converse(conversation, [ask(3)])
    assert watched.told == [[0, 1], [2], [0, 1, 2]]
