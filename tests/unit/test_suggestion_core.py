# SPDX-License-Identifier: Apache-2.0
"""The service's core: histories named by digest, refusals, and what a repeated request costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import (
    Exhausted,
    History,
    Outcome,
    OutcomeState,
    Problem,
    Proposal,
    history_digest,
)
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.messages import message_digest, outcome_message, problem_message
from tunesmith_suggestion.registry import BUILT_IN, Registry
from tunesmith_suggestion.settings import Setting
from tunesmith_suggestion.testing import GRID, METRIC, SPACE, a_history, a_problem

OUTCOMES = a_history(SPACE, 12).outcomes
MESSAGES = [outcome_message(SPACE, outcome) for outcome in OUTCOMES]


def digest(messages: Sequence[pb.Outcome]) -> str:
    return history_digest(message_digest(message) for message in messages)


def request(
    told: Sequence[pb.Outcome],
    *,
    base: Sequence[pb.Outcome] = (),
    count: int = 1,
    first: int = 12,
    algorithm: str = "tpe",
    uid: str = "uid-1",
) -> pb.SuggestRequest:
    """Asks about the history base + told, sending told only."""
    history = pb.History(
        base_digest=digest(base) if base else "",
        outcomes=told,
        digest=digest([*base, *told]),
    )
    problem = problem_message(a_problem(algorithm, uid=uid))
    return pb.SuggestRequest(problem=problem, first_ordinal=first, count=count, history=history)


KNOWN = "auto, bayesianoptimization, cmaes, grid, multivariate-tpe, random, sobol, tpe"
WHOLE = SuggestionCore().suggest(request(MESSAGES))


class Counting(RandomSearch):
    """random, which counts its answers."""

    name = "counting"
    asked = 0

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        self.asked += 1
        return super().suggest(problem, history, ordinals, recorded)


class Dry(RandomSearch):
    """Has nothing to propose and says neither why nor that it ends."""

    name = "dry"
    settings: Sequence[Setting] = ()

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        return Proposal(())


def test_a_history_told_in_parts_gives_the_answer_of_the_whole() -> None:
    core = SuggestionCore()
    core.suggest(request(MESSAGES[:5], first=5))
    assert core.suggest(request(MESSAGES[5:], base=MESSAGES[:5])) == WHOLE


def test_parts_may_come_in_any_order_of_ordinals_and_twice() -> None:
    core = SuggestionCore()
    late_first = [*MESSAGES[6:], *MESSAGES[6:8]]
    core.suggest(request(MESSAGES[6:], count=0))
    core.suggest(pb.SuggestRequest.FromString(request(MESSAGES[6:], count=0).SerializeToString()))
    again = request(late_first, count=0)
    again.history.digest = digest(MESSAGES[6:])
    core.suggest(again)
    assert core.suggest(request(MESSAGES[:6], base=MESSAGES[6:])) == WHOLE


def test_an_older_request_is_answered_as_it_was_the_first_time() -> None:
    core = SuggestionCore()
    older = request(MESSAGES[:5], first=5)
    first = core.suggest(older)
    core.suggest(request(MESSAGES[5:], base=MESSAGES[:5]))
    assert core.suggest(older) == first
    assert core.suggest(request(MESSAGES[5:], base=MESSAGES[:5])) == WHOLE


def test_a_history_that_another_one_replaced_is_not_mixed_with_it() -> None:
    core = SuggestionCore()
    core.suggest(request(MESSAGES[:4], count=0))
    core.suggest(request(MESSAGES[4:6], base=MESSAGES[:4], count=0))
    core.suggest(request(MESSAGES[6:9], base=MESSAGES[:4], count=0))
    reply = core.suggest(request(MESSAGES[6:], base=MESSAGES[:6]))
    assert reply.history_lost
    assert core.suggest(request(MESSAGES)) == WHOLE


def test_an_unknown_base_is_reported_lost_and_a_full_history_heals_it() -> None:
    core = SuggestionCore()
    reply = core.suggest(request(MESSAGES[5:], base=MESSAGES[:5]))
    assert reply.history_lost and not reply.assignments
    assert core.suggest(request(MESSAGES)) == WHOLE


def test_a_history_that_is_not_what_its_digest_says_is_refused_and_changes_nothing() -> None:
    core = SuggestionCore()
    core.suggest(request(MESSAGES[:5], first=5))
    wrong = request(MESSAGES[5:], base=MESSAGES[:5])
    wrong.history.outcomes[0].values["loss"] = 99.0
    with pytest.raises(Invalid, match="digest"):
        core.suggest(wrong)
    assert core.suggest(request(MESSAGES[5:], base=MESSAGES[:5])) == WHOLE


def test_an_ordinal_cannot_be_told_two_outcomes() -> None:
    changed = pb.Outcome()
    changed.CopyFrom(MESSAGES[0])
    changed.state = "failed"
    core = SuggestionCore()
    core.suggest(request(MESSAGES[:5], first=5))
    with pytest.raises(Invalid, match="ordinal 0 was told before with another outcome"):
        core.suggest(request([changed], base=MESSAGES[:5]))


def test_only_so_many_experiments_are_remembered() -> None:
    core = SuggestionCore(max_experiments=2)
    for uid in ("a", "b", "c"):
        core.suggest(request(MESSAGES[:5], uid=uid, first=5))
    lost = {
        uid: core.suggest(request(MESSAGES[5:], base=MESSAGES[:5], uid=uid)).history_lost
        for uid in ("b", "c", "a")
    }
    assert lost == {"b": False, "c": False, "a": True}


def test_only_so_many_outcomes_are_remembered_but_one_experiment_always_is() -> None:
    core = SuggestionCore(max_outcomes=8)
    for uid in ("a", "b", "c"):
        core.suggest(request(MESSAGES[:5], uid=uid, first=5))
    assert core.suggest(request(MESSAGES[5:], base=MESSAGES[:5], uid="a")).history_lost
    assert not core.suggest(request(MESSAGES[5:], base=MESSAGES[:5], uid="c")).history_lost
    assert not core.suggest(request([], base=MESSAGES, uid="c")).history_lost


def test_a_hundred_experiments_asked_in_turn_tell_only_what_is_new() -> None:
    core = SuggestionCore()
    uids = [f"experiment-{k}" for k in range(100)]
    for uid in uids:
        core.suggest(request(MESSAGES[:5], uid=uid, first=5))
    for uid in uids:
        assert not core.suggest(request(MESSAGES[5:], base=MESSAGES[:5], uid=uid)).history_lost


def test_a_repeated_request_is_computed_once() -> None:
    counting = Counting()
    core = SuggestionCore(Registry({"counting": lambda: counting}))
    asked = request(MESSAGES, algorithm="counting", count=3)
    assert core.suggest(asked) == core.suggest(asked)
    assert counting.asked == 1


def test_a_request_for_nothing_only_tells() -> None:
    reply = SuggestionCore().suggest(request(MESSAGES, count=0))
    assert not reply.assignments and not reply.exhausted and reply.algorithm_version


def test_an_algorithm_without_points_replies_without_assignments() -> None:
    core = SuggestionCore(Registry({"dry": Dry}))
    reply = core.suggest(request(MESSAGES, algorithm="dry"))
    assert not reply.assignments and not reply.exhausted


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": 1001}, "1001 assignments asked in one request; at most 1000 are given"),
        ({"first": 11}, "ordinal 11 is told but 11 is to be proposed"),
        (
            {"algorithm": "tp"},
            rf"unknown algorithm 'tp' \(known: {KNOWN}\)",
        ),
    ],
)
def test_requests_that_can_never_work_are_refused(
    change: dict[str, int | str], sentence: str
) -> None:
    count, first = int(change.get("count", 1)), int(change.get("first", 12))
    algorithm = str(change.get("algorithm", "tpe"))
    with pytest.raises(Invalid, match=sentence):
        SuggestionCore().suggest(request(MESSAGES, count=count, first=first, algorithm=algorithm))


def test_points_outside_the_space_are_refused_with_their_ordinal() -> None:
    foreign = pb.Outcome(ordinal=3, parameters={"lr": "7"}, state="succeeded")
    with pytest.raises(Invalid, match="ordinal 3 is not a point of the search space: lr: 7 is out"):
        SuggestionCore().suggest(request([foreign]))


def test_a_point_that_ended_cannot_be_pending() -> None:
    asked = request(MESSAGES)
    asked.pending.add(ordinal=4, parameters=dict(MESSAGES[4].parameters))
    with pytest.raises(Invalid, match="ordinal 4 cannot be pending"):
        SuggestionCore().suggest(asked)


def test_validation_tells_everything_that_is_wrong() -> None:
    problem = problem_message(a_problem("tpe", settings={"gamma": "3", "sigma": "1"}))
    found = SuggestionCore().validate(pb.ValidateRequest(problem=problem)).problems
    assert [line.split()[0] for line in found] == ["setting", "unknown"]


def test_validation_reports_an_unreadable_space_and_an_unknown_algorithm() -> None:
    problem = problem_message(a_problem("annealing"))
    found = SuggestionCore().validate(pb.ValidateRequest(problem=problem)).problems
    assert list(found) == [f"unknown algorithm 'annealing' (known: {KNOWN})"]
    problem.parameters[0].min = "high"
    found = SuggestionCore().validate(pb.ValidateRequest(problem=problem)).problems
    assert "'lr': feasibleSpace.min: 'high' is not a number" in found[0]


@pytest.mark.parametrize("algorithm", sorted(BUILT_IN))
def test_a_service_that_restarts_between_asks_gives_the_same_points(algorithm: str) -> None:
    def search(core: Callable[[], SuggestionCore]) -> list[pb.Assignment]:
        """Batches of three; each one is told before the next."""
        told: list[pb.Outcome] = []
        found: list[pb.Assignment] = []
        problem = problem_message(a_problem(algorithm, GRID))
        while len(found) < 18:
            history = pb.History(outcomes=told, digest=digest(told))
            asked = pb.SuggestRequest(
                problem=problem, first_ordinal=len(found), count=3, history=history
            )
            found += core().suggest(asked).assignments
            told = [ended(assignment) for assignment in found]
        return found

    def ended(one: pb.Assignment) -> pb.Outcome:
        values = {METRIC: (one.ordinal * 7 % 11) / 11}
        state = OutcomeState.FAILED if one.ordinal % 5 == 4 else OutcomeState.SUCCEEDED
        outcome = Outcome(one.ordinal, GRID.values(dict(one.parameters)), state, values)
        return outcome_message(GRID, outcome)

    undisturbed = SuggestionCore()
    assert search(lambda: undisturbed) == search(SuggestionCore)
