# SPDX-License-Identifier: Apache-2.0
"""The same Experiment with the same seed gives the same assignments on a laptop, as processes, and
in a cluster, as jobs; one trial at a time, so that nothing depends on who is quicker."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from controlled_cluster import Services, controlled, experiment, run, state
from running_cluster import Cluster

from tunesmith.client import Client
from tunesmith_controller.ports import Json

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PROGRAM = "import sys; x = float(sys.argv[1].split('=')[1]); print(f'loss={(x - 1.0) ** 2!r}')"
TRIALS = 14


def sequential(name: str, namespace: str, algorithm: str) -> Json:
    return experiment(
        name,
        namespace,
        maxTrialCount=TRIALS,
        parallelTrialCount=1,
        algorithm={
            "algorithmName": algorithm,
            "algorithmSettings": [{"name": "random_state", "value": "11"}],
        },
    )


def on_a_laptop(body: Json, folder: Path) -> list[str]:
    """The values of x by ordinal, of real processes."""
    local = copy.deepcopy(body)
    local["metadata"].pop("namespace")
    job = local["spec"]["trialTemplate"]["trialSpec"]
    job["spec"].pop("managedBy")
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["python3", "-c", PROGRAM, "--x=${trialParameters.x}"]
    client = Client(folder)
    client.run(local)
    return [trial.parameters["x"] for trial in client.trials(body["metadata"]["name"])]


@pytest.mark.parametrize("algorithm", ["sobol", "tpe", "bayesianoptimization"])
def test_a_sequential_search_makes_the_same_decisions_in_both_worlds(
    katib_cluster: Cluster, services: Services, tmp_path: Path, algorithm: str
) -> None:
    namespace = katib_cluster.namespace_of_test()
    body = sequential(f"same-{algorithm}", namespace, algorithm)
    found: list[str] = []

    async def scenario() -> None:
        async with controlled(katib_cluster, services, "a") as (hand, _):
            await hand.store.create(body)
            ended = await hand.ended(f"same-{algorithm}", namespace)
            assert state(ended) == "Succeeded"
            trials = sorted(
                await hand.trials(namespace),
                key=lambda obj: int(obj["metadata"]["annotations"]["tunesmith.dev/ordinal"]),
            )
            found.extend(obj["spec"]["parameterAssignments"][0]["value"] for obj in trials)

    run(scenario())
    assert len(found) == TRIALS
    assert found == on_a_laptop(body, tmp_path)
