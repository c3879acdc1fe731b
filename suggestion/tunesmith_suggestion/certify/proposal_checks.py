# SPDX-License-Identifier: Apache-2.0
"""Checks of what is proposed: points of every kind of space, batches, seeds.

That every point is inside its space is seen to by `Search.ask`, in these checks and all others.
"""

from __future__ import annotations

from collections.abc import Callable

from tunesmith_api.search_space import SearchSpace
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.certify.cases import SPACES, repeated, shown, with_steps
from tunesmith_suggestion.certify.lab import RANDOM_STATE, Lab
from tunesmith_suggestion.certify.verdicts import Defect, NotApplicable, plural


def first_batch(lab: Lab) -> str:
    points = lab.search().ask(3)
    return f"{plural(len(points), 'point')}; the first is {shown(points[0])}"


def space(name: str) -> Callable[[Lab], str]:
    """The check of one of `SPACES`."""

    def check(lab: Lab) -> str:
        taken, note = _taken(lab, SPACES[name])
        search = lab.search(taken)
        seen = 0
        for _ in range(lab.sizes.rounds):
            points = search.ask(4)
            search.tell(points, pb.TrialStatus.SUCCEEDED, pb.TrialStatus.FAILED)
            seen += len(points)
        return f"{plural(seen, 'point')}, each inside{note}"

    return check


def _taken(lab: Lab, wanted: SearchSpace) -> tuple[SearchSpace, str]:
    """The space, or the same with steps for an algorithm that needs them."""
    refused = lab.refusal(wanted)
    if refused is None:
        return wanted, ""
    finite = with_steps(wanted)
    if finite == wanted or lab.refusal(finite) is not None:
        raise NotApplicable(f"refused: {refused}")
    return finite, f" (with steps; without: {refused})"


def batch_sizes(lab: Lab) -> str:
    got = {size: len(lab.search().ask(size)) for size in lab.sizes.batches}
    said = ", ".join(f"{count} of {size}" for size, count in got.items())
    fewer = any(count < size for size, count in got.items())
    note = "; Katib's controller takes fewer for an error and asks again" if fewer else ""
    return f"{said}{note}"


def distinct_points(lab: Lab) -> str:
    lab.needs_many(lab.space)
    search, largest = lab.search(), lab.sizes.batches[-1]
    first = search.ask(largest)
    search.tell(first)
    for points in (first, search.ask(largest)):
        if again := repeated(points):
            raise Defect(f"{len(again)} of {len(points)} points came twice: {shown(again[0])}")
    return f"two batches of {largest}, before and after results, have no point twice"


def none_asked_for(lab: Lab) -> str:
    points = lab.search().ask_any(0)
    return "no assignments" if not points else plural(len(points), "assignment")


def goes_on(lab: Lab) -> str:
    lab.needs_many(lab.space)
    search = lab.search()
    told: list[dict[str, str]] = []
    for number in range(1, lab.sizes.rounds + 2):
        points = search.ask(3)
        if told and all(texts in told for texts in points):
            raise Defect(
                f"batch {number} has only points that were told before: {shown(points[0])}"
            )
        search.tell(points)
        told += points
    return f"{plural(lab.sizes.rounds + 1, 'batch')} of 3, each with new points"


def the_same_seed(lab: Lab) -> str:
    _has_seeds(lab)
    if lab.is_seeded:
        return f"{RANDOM_STATE}=11 gives the same 4 points to experiments of other names"
    if not lab.validates_names:
        raise NotApplicable(f"it accepts any setting: whether {RANDOM_STATE} is one is unknown")
    raise Defect(f"two experiments with {RANDOM_STATE}=11 begin with different points")


def another_seed(lab: Lab) -> str:
    _has_seeds(lab)
    lab.needs_many(lab.space)
    if not lab.is_seeded:
        raise NotApplicable(f"{RANDOM_STATE} does not fix the points")
    points = [lab.search(settings={RANDOM_STATE: seed}).ask(4) for seed in ("11", "12", "13")]
    if points[0] == points[1] == points[2]:
        raise Defect(f"{RANDOM_STATE} 11, 12 and 13 give the same points: {shown(points[0][0])}")
    return f"{RANDOM_STATE} 11, 12 and 13 do not give the same points"


def _has_seeds(lab: Lab) -> None:
    if RANDOM_STATE in lab.subject.settings:
        return
    if lab.refusal(lab.space, {RANDOM_STATE: "11"}) is not None:
        raise NotApplicable(f"the algorithm has no {RANDOM_STATE}")
