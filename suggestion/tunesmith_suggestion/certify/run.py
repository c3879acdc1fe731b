# SPDX-License-Identifier: Apache-2.0
"""The checks in their order, and what carries them out. Called by `tunesmith certify`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify import history_checks as histories
from tunesmith_suggestion.certify import life_checks as lives
from tunesmith_suggestion.certify import proposal_checks as proposals
from tunesmith_suggestion.certify import settings_checks as settings
from tunesmith_suggestion.certify.cases import SPACES
from tunesmith_suggestion.certify.lab import FULL, Lab, Sizes, Subject
from tunesmith_suggestion.certify.service import CallFailed, Service, Unreachable
from tunesmith_suggestion.certify.verdicts import Check, Defect, NotApplicable, Verdict

Function = Callable[[Lab], str]

_STATUS = pb.TrialStatus
_COME_BACK_S = 3.0

CHECKS: Final[Mapping[str, tuple[str, Function]]] = MappingProxyType(
    {
        "health": ("the probe of Katib's Deployment passes", settings.health),
        "accepts": ("a good problem is accepted", settings.accepts_a_good_problem),
        "unknown-setting": (
            "a setting that does not exist is refused",
            settings.refuses_an_unknown_setting,
        ),
        "bad-value": ("a setting's bad value is refused", settings.refuses_a_bad_value),
        "first-batch": ("points are proposed before any result", proposals.first_batch),
        **{
            f"space-{name}": (f"points of a space of kind {name} are inside", proposals.space(name))
            for name in SPACES
        },
        "batch-sizes": ("batches of every size are answered", proposals.batch_sizes),
        "batch-of-none": ("asked for no points, it gives none", proposals.none_asked_for),
        "distinct": ("the points of a batch are all different", proposals.distinct_points),
        "goes-on": ("batches do not repeat what was told", proposals.goes_on),
        "same-seed": ("the same random_state gives the same points", proposals.the_same_seed),
        "other-seed": ("another random_state gives others", proposals.another_seed),
        "succeeded": ("goes on after trials that succeeded", histories.told(_STATUS.SUCCEEDED)),
        "maximize": ("goes on when the objective is maximised", histories.maximising),
        "failed": ("goes on when every trial failed", histories.told(_STATUS.FAILED)),
        "some-failed": (
            "goes on when some trials failed",
            histories.some_succeeded(_STATUS.FAILED),
        ),
        "early-stopped": (
            "goes on after early stops, with and without a result",
            histories.an_early_stop_without_a_result,
        ),
        "killed": ("goes on after killed trials", histories.some_succeeded(_STATUS.KILLED)),
        "metrics-unavailable": (
            "goes on after trials without metrics",
            histories.some_succeeded(_STATUS.METRICSUNAVAILABLE),
        ),
        "running": (
            "goes on beside trials that run or wait",
            histories.told(_STATUS.SUCCEEDED, _STATUS.RUNNING, _STATUS.CREATED),
        ),
        "not-a-number": (
            "goes on after results that are no numbers",
            histories.results_that_are_no_numbers,
        ),
        "unknown-trials": ("takes trials that it never suggested", histories.unknown_trials),
        "duplicate-trials": ("takes trials that come twice", histories.duplicate_trials),
        "out-of-order": ("takes trials in any order", histories.out_of_order),
        "deleted-trials": ("takes it that trials are gone", histories.a_trial_that_is_gone),
        "long-history": ("answers after very many trials", histories.long_history),
        "used-up": ("a space with nothing left ends or repeats", histories.used_up_space),
        "restart": ("goes on after a restart in the middle", lives.restart),
        "at-once": ("experiments at the same time do not mix", lives.experiments_at_once),
        "deadline": ("every call ends in time", lives.deadline),
    }
)
"""What is asked, in this order: name -> (the good answer, the check)."""


def run_checks(lab: Lab, skip: Collection[str] = ()) -> Iterator[Check]:
    """Each check as it ends. Raises what `lab.restart` raises."""
    gone = ""
    for name, (question, function) in CHECKS.items():
        if name in skip or gone:
            yield Check(name, question, Verdict.SKIP, gone or "left out, as asked for")
            continue
        verdict, evidence, seconds = _judged(lab, function)
        if verdict is Verdict.FAIL:
            gone = "no problem was accepted" if name == "accepts" else _gone(lab)
        yield Check(name, question, verdict, evidence, seconds)


def certify(
    service: Service,
    subject: Subject,
    *,
    sizes: Sizes = FULL,
    run_id: str = "1",
    restart: Callable[[], None] | None = None,
    skip: Collection[str] = (),
) -> list[Check]:
    """All checks of one algorithm. `run_id` tells the experiments of this run from those of others;
    a service that keeps state should not have seen it."""
    return list(run_checks(Lab(service, subject, sizes, run_id, restart), skip))


def _judged(lab: Lab, function: Function) -> tuple[Verdict, str, float]:
    began = time.monotonic()
    try:
        verdict, evidence = Verdict.PASS, function(lab)
    except NotApplicable as reason:
        verdict, evidence = Verdict.SKIP, str(reason)
    except (Defect, CallFailed) as found:
        verdict, evidence = Verdict.FAIL, str(found)
    return verdict, evidence, time.monotonic() - began


def _gone(lab: Lab) -> str:
    """Why nothing more can be asked; empty while the service is there, if need be restarted."""
    try:
        lab.service.reconnect(_COME_BACK_S)
    except Unreachable:
        if lab.restart is None:
            return "the service does not answer any more"
        try:
            lab.restart_now()
        except Defect as still:
            return str(still)
    return ""
