# SPDX-License-Identifier: Apache-2.0
"""A cluster admits what only a cluster can run, and leaves settings of other people's services to
those services."""

from __future__ import annotations

import copy

import given
import pytest

from tunesmith_controller.admission.local import LAPTOP, Refused, World, admit, admit_update
from tunesmith_controller.ports import Json

CLUSTER = World(is_cluster=True)
WITH_SERVICE = World(is_cluster=True, algorithms=frozenset({"theirs"}))


def experiment(**spec: object) -> Json:
    body = copy.deepcopy(given.experiment().json())
    body["spec"].update(spec)
    return body


def of_ray() -> Json:
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "spec": {"entrypoint": "python train.py --lr=${trialParameters.lr}"},
    }
    body = experiment()
    template = body["spec"]["trialTemplate"]
    template["trialSpec"] = job
    name = body["spec"]["parameters"][0]["name"]
    template["trialParameters"] = [{"name": "lr", "reference": name}]
    template["successCondition"] = 'status.[@this].#(jobStatus=="SUCCEEDED")#'
    template["failureCondition"] = 'status.[@this].#(jobDeploymentStatus=="Failed")#'
    template["primaryContainerName"] = "ray-head"
    return body


def test_a_kind_that_one_machine_cannot_emulate_is_admitted_in_a_cluster() -> None:
    with pytest.raises(Refused):
        admit(of_ray(), world=LAPTOP)
    assert admit(of_ray(), world=CLUSTER)["spec"]["trialTemplate"]["trialSpec"]["kind"] == "RayJob"


def test_an_algorithm_with_a_service_of_its_own_is_known_and_judges_its_own_settings() -> None:
    settings = [{"name": "anything", "value": "goes"}]
    theirs = experiment(algorithm={"algorithmName": "theirs", "algorithmSettings": settings})
    with pytest.raises(Refused):
        admit(theirs, world=CLUSTER)
    stored = admit(theirs, world=WITH_SERVICE)
    assert stored["spec"]["algorithm"]["algorithmName"] == "theirs"
    changed = copy.deepcopy(stored)
    changed["spec"]["maxTrialCount"] += 5
    assert admit_update(stored, changed, world=WITH_SERVICE) == changed


def test_our_own_settings_are_still_judged_in_a_cluster() -> None:
    wrong = [{"name": "no_such_setting", "value": "1"}]
    ours = experiment(algorithm={"algorithmName": "tpe", "algorithmSettings": wrong})
    with pytest.raises(Refused, match="no_such_setting"):
        admit(ours, world=WITH_SERVICE)
