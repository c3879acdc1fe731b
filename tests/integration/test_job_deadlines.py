# SPDX-License-Identifier: Apache-2.0
"""`activeDeadlineSeconds` of a Job, or of its pod, ends a trial in process mode as in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_attempts import Bench, bench_in, end_of, ended, job_of

from tunesmith_controller.ports import Invalid, Json

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


def sleeping(seconds: float, *, job: Any = None, pod: Any = None) -> Json:
    """A Job whose program sleeps, with deadlines for itself and for its pod."""
    spec = job_of("sleep", str(seconds))
    for place, deadline in ((spec["spec"], job), (spec["spec"]["template"]["spec"], pod)):
        if deadline is not None:
            place["activeDeadlineSeconds"] = deadline
    return spec


def how_it_ended(bench: Bench, spec: Json) -> dict[str, Any]:
    return end_of(asyncio.run(ended(bench.workloads(), bench.run(spec))))


@pytest.mark.parametrize(
    "deadlines", [{"job": 1}, {"pod": 1}, {"job": 1, "pod": 600}, {"job": 600, "pod": 1}]
)
def test_the_first_deadline_ends_the_program(bench: Bench, deadlines: dict[str, int]) -> None:
    condition = how_it_ended(bench, sleeping(600, **deadlines))
    assert (condition["type"], condition["reason"]) == ("Failed", "DeadlineExceeded")
    assert condition["message"] == "it ran longer than activeDeadlineSeconds allows"


def test_a_program_that_ends_in_time_knows_nothing_of_it(bench: Bench) -> None:
    assert how_it_ended(bench, sleeping(0, job=60))["type"] == "Complete"


@pytest.mark.parametrize("deadline", ["5", 0, -1, 1.5, True])
def test_what_is_no_deadline_is_refused(bench: Bench, deadline: Any) -> None:
    with pytest.raises(Invalid, match=r"activeDeadlineSeconds is .* whole number of seconds"):
        asyncio.run(ended(bench.workloads(), bench.run(sleeping(0, job=deadline))))
