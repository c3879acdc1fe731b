# SPDX-License-Identifier: Apache-2.0
"""Requests of Katib read from their bytes say what the plain reading of the message says, whatever
was read before."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import History, OutcomeState
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_messages import experiment_message, history_of, trial_messages
from tunesmith_suggestion.katib_requests import Trials, opened
from tunesmith_suggestion.testing import CHECKED, SPACE, a_history, a_problem

PROBLEM = a_problem("random", settings={"dedupe": "true"})
ENDS = (OutcomeState.SUCCEEDED, OutcomeState.FAILED, OutcomeState.EARLY_STOPPED)
MESSAGES = trial_messages(PROBLEM, a_history(SPACE, 150, states=ENDS, pending=5))


def request_of(trials: list[pb.Trial], **more: int) -> pb.GetSuggestionsRequest:
    return pb.GetSuggestionsRequest(
        experiment=experiment_message(PROBLEM, PROBLEM.settings), trials=trials, **more
    )


def read(reader: Trials, data: bytes) -> tuple[History, int]:
    told = reader.told(PROBLEM, opened(data))
    assert told is not None
    return told.history, told.trials


@st.composite
def edits(draw: st.DrawFn) -> list[pb.Trial]:
    """The trials of one moment: some of them, in some order, some changed or foreign."""
    count = draw(st.integers(0, len(MESSAGES)))
    trials = list(MESSAGES[:count])
    chance = random.Random(draw(st.integers(0, 50)))
    match draw(st.sampled_from(["grown", "grown", "shuffled", "fewer", "changed", "foreign"])):
        case "shuffled":
            chance.shuffle(trials)
        case "fewer" if trials:
            del trials[chance.randrange(len(trials))]
        case "changed" if trials:
            changed = pb.Trial.FromString(trials[0].SerializeToString())
            changed.status.condition = pb.TrialStatus.RUNNING
            trials[chance.randrange(len(trials))] = changed
        case "foreign":
            trials.insert(chance.randrange(count + 1), pb.Trial(name="somebody-else"))
    return trials


@settings(CHECKED, max_examples=60)
@given(moments=st.lists(edits(), min_size=1, max_size=5), most=st.sampled_from([0, 10**6]))
def test_any_sequence_of_requests_reads_as_each_of_them_alone(
    moments: list[list[pb.Trial]], most: int
) -> None:
    reader = Trials(most)
    for trials in moments:
        data = request_of(trials, current_request_number=2).SerializeToString()
        assert read(reader, data) == (history_of(PROBLEM, trials), len(trials))


def test_trials_that_did_not_change_are_the_same_objects() -> None:
    reader = Trials()
    before, _ = read(reader, request_of(MESSAGES[:100]).SerializeToString())
    after, _ = read(reader, request_of(MESSAGES).SerializeToString())
    kept = [one is other for one, other in zip(before.outcomes, after.outcomes, strict=False)]
    assert all(kept[:64])


def test_the_order_of_fields_does_not_matter() -> None:
    whole = request_of(MESSAGES[:70], current_request_number=3, total_request_number=73)
    parts = [
        pb.GetSuggestionsRequest(trials=MESSAGES[:30]).SerializeToString(),
        pb.GetSuggestionsRequest(current_request_number=3).SerializeToString(),
        pb.GetSuggestionsRequest(experiment=whole.experiment).SerializeToString(),
        pb.GetSuggestionsRequest(trials=MESSAGES[30:70]).SerializeToString(),
        pb.GetSuggestionsRequest(total_request_number=73).SerializeToString(),
    ]
    split_experiment = whole.SerializeToString() + parts[2]
    core = KatibCore()
    expected = core.suggest(whole)
    assert len(expected.parameter_assignments) == 3
    assert core.suggest_to(opened(b"".join(parts))) == expected
    doubled = pb.GetSuggestionsRequest.FromString(split_experiment)
    with pytest.raises(Invalid) as plain:
        core.suggest(doubled)
    with pytest.raises(Invalid) as cut:
        core.suggest_to(opened(split_experiment))
    assert str(cut.value) == str(plain.value)


@settings(CHECKED, max_examples=300)
@given(
    cut=st.integers(0, 5000),
    change=st.none() | st.tuples(st.integers(0, 5000), st.binary(max_size=3)),
)
def test_damaged_bytes_are_refused_or_read_as_the_library_reads_them(
    cut: int, change: tuple[int, bytes] | None
) -> None:
    data = request_of(MESSAGES[:10], current_request_number=1).SerializeToString()
    if change is not None:
        at, new = change
        data = data[: at % len(data)] + new + data[at % len(data) + len(new) :]
    else:
        data = data[: cut % len(data)]
    try:
        message = pb.GetSuggestionsRequest.FromString(data)
    except Exception:  # noqa: BLE001 - whatever it says, it is no message
        with pytest.raises(Invalid):
            KatibCore().suggest_to(opened(data))
        return
    assert outcome(data, None) == outcome(data, message)


@pytest.mark.parametrize("more", range(12))
def test_lengths_written_with_more_bytes_than_needed_are_read_as_the_library_reads_them(
    more: int,
) -> None:
    trial = MESSAGES[0].SerializeToString()
    head, tail = len(trial) & 0x7F, len(trial) >> 7
    assert 0 < tail < 0x80
    padded = bytes([head | 0x80, tail] if not more else [head | 0x80, tail | 0x80])
    length = padded + b"\x80" * (more - 1) + b"\x00" * (more > 0)
    data = request_of([]).SerializeToString() + b"\x12" + length + trial
    try:
        told = pb.GetSuggestionsRequest.FromString(data).trials
    except DecodeError:
        with pytest.raises(Invalid):
            read(Trials(), data)
    else:
        assert read(Trials(), data) == (history_of(PROBLEM, told), 1)


def test_what_is_remembered_is_bounded_by_the_memory_it_takes() -> None:
    """Asking about another experiment makes the oldest be read anew, which shows as new objects."""
    one, other = (a_problem("random", settings={"random_state": str(k)}) for k in (1, 2))
    data = [
        pb.GetSuggestionsRequest(
            experiment=experiment_message(problem, problem.settings), trials=MESSAGES[:64]
        ).SerializeToString()
        for problem in (one, other)
    ]
    for most, kept in ((1_000_000, True), (100_000, False)):
        reader = Trials(most)
        before, _ = read(reader, data[0])
        read(reader, data[1])
        again, _ = read(reader, data[0])
        assert (again.outcomes[0] is before.outcomes[0]) is kept


def outcome(data: bytes, message: pb.GetSuggestionsRequest | None) -> object:
    try:
        core = KatibCore()
        return core.suggest_to(opened(data)) if message is None else core.suggest(message)
    except Invalid as error:
        return str(error)
