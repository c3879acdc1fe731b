# SPDX-License-Identifier: Apache-2.0
"""Checks over time and beside each other: restarts, experiments at once, deadlines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify.cases import elsewhere, shown
from tunesmith_suggestion.certify.lab import MANY, RANDOM_STATE, SUCCEEDED, Lab, Search, batches
from tunesmith_suggestion.certify.verdicts import Defect, NotApplicable, plural

_AT_ONCE = 2
"""Experiments of each of the two search spaces."""


def restart(lab: Lab) -> str:
    search = lab.search(settings={RANDOM_STATE: "11"} if lab.is_seeded else {})
    told = batches(search, [3] * lab.sizes.rounds)
    search.tell(search.ask(2), pb.TrialStatus.RUNNING)
    expected = lab.again(search).ask(3) if lab.restart and lab.is_seeded else []
    search = lab.after_restart(search)
    points = search.ask(3)
    if _is_large(search) and all(texts in told for texts in points):
        raise Defect(f"after the restart it proposes what it was told: {shown(points[0])}")
    search.tell(points, SUCCEEDED, pb.TrialStatus.FAILED)
    search = lab.after_restart(search)
    search.ask(3)
    how = "simulated: the same trials under a new name" if lab.restart is None else "restarted"
    same = f", {_same(points, expected)}" if expected else ""
    return f"went on twice after {plural(len(told), 'trial')} ({how}{same})"


def _same(points: list[dict[str, str]], expected: list[dict[str, str]]) -> str:
    return (
        "with the points of a service that kept running"
        if points == expected
        else ("with other points than a service that kept running")
    )


def _is_large(search: Search) -> bool:
    count = search.space.cardinality
    return count is None or count >= MANY


def experiments_at_once(lab: Lab) -> str:
    if lab.subject.one_experiment:
        raise NotApplicable("a process of the service serves one experiment")
    settings = {RANDOM_STATE: "11"} if lab.is_seeded else {}
    spaces = [lab.space]
    if lab.refusal(elsewhere(lab.space)) is None:
        spaces.append(elsewhere(lab.space))
    searches = [lab.search(s, settings=settings) for s in spaces for _ in range(_AT_ONCE)]
    sizes = [2] * (lab.sizes.rounds + 2)
    with ThreadPoolExecutor(len(searches)) as pool:
        asked = [pool.submit(batches, search, sizes) for search in searches]
    found = [answer.result() for answer in asked]
    said = f"{plural(len(found), 'experiment')} in {plural(len(spaces), 'search space')}"
    if not lab.is_seeded:
        return f"{said} got points of their own"
    for k in range(0, len(found), _AT_ONCE):
        _assert_alike(found[k], found[k + 1])
    return f"{said} got points of their own, and the same for the same seed"


def _assert_alike(one: list[dict[str, str]], other: list[dict[str, str]]) -> None:
    if one == other:
        return
    part = next(
        (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    raise Defect(
        f"two experiments with the same seed and the same results part at point {part + 1} when "
        f"they are asked at the same time: they share something"
    )


def deadline(lab: Lab) -> str:
    slowest = lab.service.slowest
    if slowest is None:
        raise NotApplicable("no call was made")
    trials = f" with {plural(slowest.trials, 'trial')}" if slowest.trials else ""
    said = f"the slowest call, {slowest.method}{trials}, took {slowest.seconds:.2f} s"
    if slowest.seconds >= lab.service.timeout_s:
        raise Defect(f"{said}; the deadline is {lab.service.timeout_s:g} s")
    return f"{said} of {lab.service.timeout_s:g}"
