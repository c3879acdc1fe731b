# SPDX-License-Identifier: Apache-2.0
"""The verdicts of `certify`, over a service behind its port, without a network."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SearchSpace,
)
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify import (
    CHECKS,
    QUICK,
    CallFailed,
    Check,
    Lab,
    Subject,
    Unreachable,
    Verdict,
    run_checks,
)
from tunesmith_suggestion.certify.cases import (
    MIXED,
    SPACES,
    drawn,
    elsewhere,
    faults,
    repeated,
    with_steps,
)
from tunesmith_suggestion.certify.service import Timed
from tunesmith_suggestion.katib import KatibCore


class InProcess:
    """Our service without gRPC. `spoil` sees every request first."""

    target = "here"
    timeout_s = 5.0

    def __init__(
        self, spoil: Callable[[pb.GetSuggestionsRequest], None] = lambda request: None
    ) -> None:
        self.core = KatibCore()
        self.spoil = spoil
        self.slowest: Timed | None = Timed("GetSuggestions", 3, 0.25)
        self.is_there = True
        self.asked = 0

    def validate(self, experiment: pb.Experiment) -> None:
        try:
            self.core.validate(pb.ValidateAlgorithmSettingsRequest(experiment=experiment))
        except Invalid as error:
            raise CallFailed("Validate", "INVALID_ARGUMENT", str(error)) from None

    def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply:
        self.asked += 1
        self.spoil(request)
        return self.core.suggest(request)

    def health(self, name: str) -> str:
        return "SERVING"

    def reconnect(self, seconds: float) -> None:
        if not self.is_there:
            raise Unreachable(self.target, seconds)


def judged(service: InProcess, subject: Subject | None = None, **lab: object) -> dict[str, Check]:
    made = Lab(service, subject or Subject("random"), QUICK, **lab)  # type: ignore[arg-type]
    return {check.name: check for check in run_checks(made)}


# ---- the run ------------------------------------------------------------------------------------


def test_an_honest_service_passes_every_check() -> None:
    found = judged(InProcess())
    assert list(found) == list(CHECKS)
    assert {check.verdict for check in found.values()} == {Verdict.PASS}


def test_a_check_that_is_left_out_asks_nothing() -> None:
    service = InProcess()
    checks = list(run_checks(Lab(service, Subject("random"), QUICK), skip=CHECKS))
    assert {check.verdict for check in checks} == {Verdict.SKIP}
    assert service.asked == 0


def test_a_failed_call_is_evidence_and_the_next_checks_go_on() -> None:
    def refuse_failures(request: pb.GetSuggestionsRequest) -> None:
        if any(trial.status.condition == pb.TrialStatus.KILLED for trial in request.trials):
            raise CallFailed("GetSuggestions", "INTERNAL", "killed?")

    found = judged(InProcess(refuse_failures))
    assert found["killed"].verdict is Verdict.FAIL
    assert found["killed"].evidence == "GetSuggestions answered INTERNAL: killed?"
    assert found["metrics-unavailable"].verdict is Verdict.PASS


def test_a_service_that_is_gone_is_restarted_where_that_is_possible() -> None:
    service, restarts = InProcess(), []

    def die_of_many(request: pb.GetSuggestionsRequest) -> None:
        if len(request.trials) == QUICK.long_history:
            service.is_there = False
        if not service.is_there:
            raise CallFailed("GetSuggestions", "UNAVAILABLE", "")

    def restart() -> None:
        restarts.append(1)
        service.is_there = True

    service.spoil = die_of_many
    found = judged(service, restart=restart)
    assert restarts
    assert found["long-history"].verdict is Verdict.FAIL
    assert found["used-up"].verdict is Verdict.PASS


def test_a_service_that_is_not_back_after_a_restart_fails_the_check() -> None:
    service = InProcess()

    def restart() -> None:
        service.is_there = False

    found = judged(service, restart=restart)
    assert found["restart"].evidence.startswith("after the restart, nobody answers at here")
    assert found["deadline"].verdict is Verdict.SKIP


@pytest.mark.parametrize(
    ("subject", "check", "reason"),
    [
        (Subject("grid"), "space-double", "with steps; without: parameter 'x'"),
        (Subject("grid"), "used-up", "ended with no assignments when all 6 points were told"),
        (Subject("random", space=SPACES["steps"]), "distinct", "has 784 points"),
        (Subject("random", {"dedupe": "true"}), "bad-value", "setting 'dedupe' is 'certainly-not'"),
        (Subject("random", {"dedupe": "true"}), "used-up", "ended with no assignments"),
    ],
)
def test_what_depends_on_the_algorithm_is_told(subject: Subject, check: str, reason: str) -> None:
    found = judged(InProcess(), subject)
    assert reason in found[check].evidence
    assert Verdict.FAIL not in {judgement.verdict for judgement in found.values()}


def test_the_settings_of_a_reply_come_back_with_the_next_question() -> None:
    class Counting(InProcess):
        def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply:
            reply = super().suggest(request)
            setting = pb.AlgorithmSetting(name="dedupe", value="true")
            reply.algorithm.algorithm_settings.append(setting)
            return reply

    seen: list[list[str]] = []
    service = Counting(
        lambda r: seen.append([s.value for s in r.experiment.spec.algorithm.algorithm_settings])
    )
    search = Lab(service, Subject("random"), QUICK).search()
    for _ in range(2):
        search.tell(search.ask(1))
    assert seen == [[], ["true"]]


# ---- points -------------------------------------------------------------------------------------

SPACE = SearchSpace(
    (
        IntParameter("n", 1, 9, step=2),
        DoubleParameter("x", 0.0, 1.0, step=0.1),
        ListParameter("c", ("a", "b")),
        ListParameter("d", ("1", "2"), ParameterType.DISCRETE),
    )
)


def assignment(**texts: str) -> pb.GetSuggestionsReply.ParameterAssignments:
    good = {"n": "3", "x": "0.30000000000000004", "c": "a", "d": "2"}
    pairs = [pb.ParameterAssignment(name=k, value=v) for k, v in {**good, **texts}.items()]
    return pb.GetSuggestionsReply.ParameterAssignments(assignments=pairs)


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        ({}, None),
        ({"n": "4"}, "n: 4 is not 1 plus a multiple of 2"),
        ({"n": "11"}, "n: 11 is outside [1, 9]"),
        ({"n": "3.0"}, "n: '3.0' is not written as an integer"),
        ({"n": "three"}, "n: 'three' is not an integer"),
        ({"x": "0.35"}, "x: 0.35 is not 0.0 plus a multiple of 0.1"),
        ({"x": "nan"}, "x: 'nan' is not a finite number"),
        ({"c": "A"}, "c: 'A' is not one of a, b"),
        ({"d": "2.0"}, "d: '2.0' is not one of 1, 2"),
        ({"y": "1"}, "y: not a parameter of this experiment"),
    ],
)
def test_a_point_is_judged_as_it_is_written(texts: dict[str, str], fault: str | None) -> None:
    assert faults(SPACE, assignment(**texts)) == ([] if fault is None else [fault])


def test_missing_and_double_values_are_faults() -> None:
    one = assignment()
    one.assignments.append(one.assignments[0])
    del one.assignments[1]
    assert faults(SPACE, one) == ["n: assigned twice", "x: missing"]


@pytest.mark.parametrize("space", [MIXED, *SPACES.values()])
def test_points_of_our_own_are_points_and_other_spaces_share_none(space: SearchSpace) -> None:
    finite, other = with_steps(space), elsewhere(space)
    assert finite.cardinality is not None
    for made in (space, finite, other):
        assert not any(made.violations(texts) for texts in drawn(made, 50, "test"))
    for texts in drawn(other, 5, "test"):
        assert len(space.violations(texts)) == len(space)


def test_repeated_points_are_found_whatever_the_order_of_their_names() -> None:
    points = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "2", "b": "1"}]
    assert repeated(points) == [points[1]]
