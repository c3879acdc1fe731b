# SPDX-License-Identifier: Apache-2.0
"""Whether what a pod is owned by is the job that its trial has; and where calls come from."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith_controller.identity.trial_pods import NotATrials, judged, owner_of
from tunesmith_controller.ports import Json
from tunesmith_proto.callers import NotAuthenticated, TrialCaller, peer_address

UID = "trial-uid"


def trial(attempt: int | None = 2, job_uid: str = "job-uid", kind: str = "Job") -> Json:
    run = None if attempt is None else {"attempt": attempt, "jobUID": job_uid}
    return {
        "metadata": {"name": "t", "uid": UID},
        "spec": {"runSpec": {"apiVersion": "batch/v1", "kind": kind}},
        "status": {"run": run},
    }


def marks(attempt: str, uid: str = UID) -> dict[str, str]:
    return {"tunesmith.dev/trial-uid": uid, "tunesmith.dev/attempt": attempt}


def job(annotations: dict[str, str] | None = None, **changes: Any) -> Json:
    metadata = {
        "name": "t",
        "uid": "job-uid",
        "annotations": marks("2") if annotations is None else annotations,
        "ownerReferences": [{"uid": UID, "controller": True}],
    }
    found = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    for name, value in changes.items():
        (metadata if name in metadata else found)[name] = value
    return found


def pod(annotations: dict[str, str] | None = None) -> Json:
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u", "annotations": annotations}}


@pytest.mark.parametrize(
    ("job", "trial", "attempt"),
    [
        (job(), trial(), 2),
        (job(), trial(job_uid=""), 2),  # it runs, and the controller has not said so yet
        (job(marks("1")), trial(job_uid=""), 1),  # it is being stopped for the next attempt
        (job({}), trial(None), 1),  # Katib's
        (job(apiVersion="batch/v1beta1"), trial(), 2),
    ],
)
def test_the_trials_own_job_tells_the_attempt(job: Json, trial: Json, attempt: int) -> None:
    found = TrialCaller(UID, attempt, "n", "t", "p")
    assert judged(pod(), job, trial) == found
    assert judged(pod(marks(str(attempt))), job, trial) == found


@pytest.mark.parametrize(
    ("job", "trial", "why"),
    [
        (job(uid="other"), trial(), "not the one that trial t runs"),
        (job(name="other"), trial(), "not the job of trial t"),
        (job(kind="Pod"), trial(), "not the job of trial t"),
        (job(apiVersion="x.org/v1"), trial(), "not the job of trial t"),
        (job(marks("3")), trial(job_uid=""), "of no attempt"),
        (job(marks("2", "other")), trial(), "of no attempt"),
        (job(marks("two")), trial(), "of no attempt"),
        (job(marks("9" * 5000)), trial(), "of no attempt"),
        (job({}), trial(None) | {"spec": {}}, "not the job of trial t"),
    ],
)
def test_what_is_not_the_trials_job_tells_nothing(job: Json, trial: Json, why: str) -> None:
    with pytest.raises(NotATrials, match=why):
        judged(pod(), job, trial)


@pytest.mark.parametrize("annotations", [marks("1"), marks("2", "other"), marks("")])
def test_a_pod_that_contradicts_its_job_is_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(NotATrials, match="annotations are not those of attempt 2"):
        judged(pod(annotations), job(), trial())


@pytest.mark.parametrize(
    "changes",
    [
        {"apiVersion": "../v1"},
        {"apiVersion": "a/b/v1"},
        {"apiVersion": ""},
        {"kind": "Job?x"},
        {"name": "../x"},
        {"name": "a/b"},
        {"name": ".."},
    ],
)
def test_an_owner_whose_name_would_change_the_path_is_not_looked_for(changes: Json) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "t", "uid": "u", "controller": True}
    assert owner_of({"metadata": {"name": "p", "ownerReferences": [owner]}}).name == "t"
    with pytest.raises(NotATrials):
        owner_of({"metadata": {"name": "p", "ownerReferences": [{**owner, **changes}]}})


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.1.2.3:4711", "10.1.2.3"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:4711", "10.1.2.3"),
        ("ipv6:%5Bfd00::1%5D:4711", "fd00::1"),
        ("ipv6:[fd00:0:0::1]:4711", "fd00::1"),
    ],
)
def test_the_other_end_of_a_connection_has_an_address(peer: str, address: str) -> None:
    assert peer_address(peer) == address


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/run/o.sock", "ipv4:", "ipv4:host:1"])
def test_an_end_without_an_address_is_nobody(peer: str) -> None:
    with pytest.raises(NotAuthenticated):
        peer_address(peer)
