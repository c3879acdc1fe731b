# SPDX-License-Identifier: Apache-2.0
"""tunesmith.v1.Suggestions without a network: a request in, a reply out.

`servicer` puts it on gRPC; the simulation's fake calls it directly. Safe from several threads.
Raises `Invalid` (INVALID_ARGUMENT) for requests that can never be answered; anything else is a
defect of an algorithm.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import Exhausted, History, Outcome, Pending, Problem
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.histories import HeldHistory, Histories, Told
from tunesmith_suggestion.messages import message_digest, outcome_of, pending_of, problem_of
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.registry import Registry

MAX_COUNT: Final = 1000
"""Assignments in one request."""
MAX_EXPERIMENTS: Final = 512
MAX_OUTCOMES: Final = 200_000
"""How many experiments, with how many outcomes in all, are remembered; others resend their history.
An outcome of ten parameters takes about 1.2 KiB, so 240 MiB at most; a bound on experiments alone
would let a few more of them than it, asked in turn, resend everything every time."""


class SuggestionCore:
    """Answers for every algorithm of the registry."""

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        max_experiments: int = MAX_EXPERIMENTS,
        max_outcomes: int = MAX_OUTCOMES,
        max_count: int = MAX_COUNT,
    ) -> None:
        self._registry = registry or Registry()
        self._histories = Histories(max_experiments, max_outcomes)
        self._max_count = max_count
        self._asked = lru_cache(maxsize=max_experiments)(self._read)

    def validate(self, request: pb.ValidateRequest) -> pb.ValidateReply:
        """Everything that is wrong with the problem; an unreadable one is one of those things."""
        try:
            problem = problem_of(request.problem)
            problems = self._registry.find(problem.algorithm).validate(problem)
        except Invalid as error:
            problems = [str(error)]
        return pb.ValidateReply(problems=problems)

    def suggest(self, request: pb.SuggestRequest) -> pb.SuggestReply:
        """The assignments of `count` ordinals; a count of 0 only tells history.

        Raises Invalid for a problem that does not validate, a history that is not what its digest
        says, or a count or ordinals out of range.
        """
        problem, algorithm = self._asked(request.problem.SerializeToString(deterministic=True))
        check_count(request.count, self._max_count)
        held = self._histories.of(problem.experiment_uid, problem.space)
        outcomes = _told(held, request)
        if outcomes is None:
            return pb.SuggestReply(history_lost=True, algorithm_version=algorithm.version)
        history = History(outcomes, _pending(problem, request, outcomes))
        if not request.count:
            return pb.SuggestReply(algorithm_version=algorithm.version)
        return held.remembered(
            _identity(request), lambda: _answer(algorithm, problem, history, request)
        )

    def _read(self, problem: bytes) -> tuple[Problem, Algorithm]:
        """The problem in its bytes, and who solves it. Raises Invalid."""
        found = problem_of(pb.Problem.FromString(problem))
        return found, valid_algorithm(self._registry, without_budget(found))


def valid_algorithm(registry: Registry, problem: Problem) -> Algorithm:
    """The problem's algorithm. Raises Invalid with all that it finds wrong with the problem."""
    algorithm = registry.find(problem.algorithm)
    if problems := algorithm.validate(problem):
        raise Invalid("; ".join(problems))
    return algorithm


def without_budget(problem: Problem) -> Problem:
    """Budgets are judged when an experiment is validated. One that is raised while it runs beyond
    what a finite space holds lets the search end by itself, instead of failing it."""
    return replace(problem, max_trials=None)


def check_count(count: int, limit: int) -> None:
    if not 0 <= count <= limit:
        raise Invalid(f"{count} assignments asked in one request; at most {limit} are given")


def _told(held: HeldHistory, request: pb.SuggestRequest) -> tuple[Outcome, ...] | None:
    told = (
        Told(outcome_of(held.space, message), message_digest(message))
        for message in request.history.outcomes
    )
    outcomes = held.apply(request.history.base_digest, told, request.history.digest)
    if outcomes and outcomes[-1].ordinal >= request.first_ordinal:
        last = outcomes[-1].ordinal
        raise Invalid(f"ordinal {last} is told but {request.first_ordinal} is to be proposed")
    return outcomes


def _pending(
    problem: Problem, request: pb.SuggestRequest, outcomes: Sequence[Outcome]
) -> tuple[Pending, ...]:
    pending = [pending_of(problem.space, message) for message in request.pending]
    for one in pending:
        if _has(outcomes, one.ordinal) or one.ordinal >= request.first_ordinal:
            raise Invalid(f"ordinal {one.ordinal} cannot be pending: ended or not yet proposed")
    return tuple(sorted(pending, key=lambda p: p.ordinal))


def _has(outcomes: Sequence[Outcome], ordinal: int) -> bool:
    place = bisect_left(outcomes, ordinal, key=lambda outcome: outcome.ordinal)
    return place < len(outcomes) and outcomes[place].ordinal == ordinal


def _identity(request: pb.SuggestRequest) -> bytes:
    """Names the inputs of an answer, however the history was split into tellings."""
    inputs = pb.SuggestRequest(
        problem=request.problem,
        request_id=request.request_id,
        first_ordinal=request.first_ordinal,
        count=request.count,
        pending=request.pending,
        history=pb.History(digest=request.history.digest),
        recorded=request.recorded,
    )
    return hashlib.sha256(inputs.SerializeToString(deterministic=True)).digest()


def _answer(
    algorithm: Algorithm, problem: Problem, history: History, request: pb.SuggestRequest
) -> pb.SuggestReply:
    ordinals = range(request.first_ordinal, request.first_ordinal + request.count)
    found = algorithm.suggest(problem, history, ordinals, request.recorded)
    if isinstance(found, Exhausted):
        return pb.SuggestReply(
            exhausted=True, exhausted_reason=found.reason, algorithm_version=algorithm.version
        )
    return pb.SuggestReply(
        assignments=[
            pb.Assignment(ordinal=k, parameters=problem.space.texts(values))
            for k, values in zip(ordinals, found.assignments, strict=False)
        ],
        algorithm_version=algorithm.version,
        recorded=found.recorded,
    )
