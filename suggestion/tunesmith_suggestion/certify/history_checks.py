# SPDX-License-Identifier: Apache-2.0
"""Checks of what a service makes of trials: however they ended, whoever proposed them, in whatever
order, and how many."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunesmith_api.problem import Direction
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify.cases import FEW, drawn, repeated
from tunesmith_suggestion.certify.lab import ENDED, SUCCEEDED, Condition, Lab, Search
from tunesmith_suggestion.certify.service import CallFailed
from tunesmith_suggestion.certify.verdicts import Defect, NotApplicable, plural

_NO_NUMBERS = ("NaN", "inf", "", "n/a")
_MIB = 2**20
_KATIB_MIB = 4


def _goes_on(search: Search, what: str, count: int = 3) -> str:
    """Asks for more, twice, the first batch still running at the second."""
    search.tell(search.ask(count), pb.TrialStatus.RUNNING)
    search.ask(count)
    return what


def told(*conditions: Condition) -> Callable[[Lab], str]:
    """The check of trials that ended in these ways, in turn."""

    def check(lab: Lab) -> str:
        search = lab.search()
        search.tell(search.ask(lab.sizes.told), *conditions)
        return _goes_on(search, f"asked on after {plural(len(search.trials), 'trial')}")

    return check


def some_succeeded(condition: Condition) -> Callable[[Lab], str]:
    """The check of trials one third of which did not succeed."""
    return told(SUCCEEDED, condition, SUCCEEDED)


def an_early_stop_without_a_result(lab: Lab) -> str:
    search = lab.search()
    search.tell(search.ask(lab.sizes.told), SUCCEEDED, pb.TrialStatus.EARLYSTOPPED)
    for trial in search.trials[1::4]:
        trial.status.observation.Clear()
    return _goes_on(search, f"asked on after {plural(len(search.trials), 'trial')}")


def results_that_are_no_numbers(lab: Lab) -> str:
    for value in _NO_NUMBERS:
        search = lab.search()
        search.tell(search.ask(4))
        search.tell(search.ask(2), value=value)
        _goes_on(search, "")
    said = ", ".join(repr(value) for value in _NO_NUMBERS)
    return f"asked on after trials whose metric is {said}"


def maximising(lab: Lab) -> str:
    search = lab.search(direction=Direction.MAXIMIZE)
    search.tell(search.ask(lab.sizes.told))
    return _goes_on(search, f"asked on after {plural(len(search.trials), 'trial')}")


# ---- trials that the service may not expect -----------------------------------------------------


def unknown_trials(lab: Lab) -> str:
    search = lab.search()
    search.tell(search.ask(3))
    search.tell(drawn(search.space, lab.sizes.told, "unknown"), *ENDED)
    alone = lab.search()
    alone.tell(drawn(alone.space, 1, "alone"), pb.TrialStatus.FAILED)
    _goes_on(alone, "")
    return _goes_on(search, f"{plural(lab.sizes.told, 'trial')} that it never suggested")


def duplicate_trials(lab: Lab) -> str:
    search = lab.search()
    points = search.ask(6)
    search.tell(points)
    search.trials += search.trials[:3]
    search.tell(points[:3])
    return _goes_on(search, "3 trials sent twice, 3 points told again under other names")


def out_of_order(lab: Lab) -> str:
    search = lab.search()
    for _ in range(lab.sizes.rounds):
        search.tell(search.ask(3), pb.TrialStatus.RUNNING, SUCCEEDED)
    search.trials.reverse()
    _goes_on(search, "")
    for trial in search.trials[::2]:
        trial.status.condition = pb.TrialStatus.FAILED
    search.trials[:] = search.trials[1::2] + search.trials[::2]
    return _goes_on(search, "trials in reverse order, then shuffled, later ones ended first")


def a_trial_that_is_gone(lab: Lab) -> str:
    search = lab.search()
    for _ in range(2):
        search.tell(search.ask(3))
    del search.trials[1:3]
    return _goes_on(search, "asked on after 2 of 6 trials were deleted")


# ---- sizes --------------------------------------------------------------------------------------


def long_history(lab: Lab) -> str:
    count = lab.sizes.long_history
    search = lab.search()
    search.tell(drawn(search.space, count, "long"), *[SUCCEEDED] * 15, *ENDED)
    size = sum(trial.ByteSize() for trial in search.trials) / _MIB
    said = f"{count:,} trials ({size:.1f} MiB)"
    began = time.monotonic()
    try:
        search.ask(1)
    except CallFailed as failed:
        if failed.code == "RESOURCE_EXHAUSTED" and size > _KATIB_MIB:
            raise Defect(
                f"{said} are refused: {failed.details}; gRPC's default limit is 4 MiB, "
                f"grpc.max_receive_message_length raises it"
            ) from None
        raise
    return f"{said} answered in {time.monotonic() - began:.1f} s"


def used_up_space(lab: Lab) -> str:
    """Both ends are fine; which one it is belongs into the report."""
    if refused := lab.refusal(FEW):
        raise NotApplicable(f"refused: {refused}")
    search, total = lab.search(FEW), FEW.cardinality or 0
    proposed: list[dict[str, str]] = []
    for _ in range(4 * total):
        points = search.ask_any(1)
        if not points:
            break
        search.tell(points)
        proposed += points
    distinct = len(proposed) - len(repeated(proposed))
    if len(proposed) < 4 * total:
        if distinct < total:
            raise Defect(f"the search ended with {distinct} of {total} points proposed")
        return f"ended with no assignments when all {total} points were told"
    return f"repeats points: {distinct} of {total} in {plural(4 * total, 'proposal')}"
