# SPDX-License-Identifier: Apache-2.0
"""Calls Katib's own Python client and gRPC stubs as it is told: a JSON request a line on standard
input, a JSON answer a line on standard output.

Run by conftest.py with the interpreter that set_up.py made; nothing of ours can be imported here.
"""

from __future__ import annotations

import json
import sys
import types
from itertools import islice
from typing import Any

import grpc
import kubernetes.watch  # type: ignore[import-not-found,import-untyped,unused-ignore]
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kubeflow import katib  # type: ignore[import-not-found]
from kubeflow.katib import katib_api_pb2, katib_api_pb2_grpc  # type: ignore[import-not-found]
from kubeflow.katib.utils.utils import FakeResponse  # type: ignore[import-not-found]

WAIT_S = 20.0
_models = katib.ApiClient()


# ---- KatibClient --------------------------------------------------------------------------------


def call(config: str, method: str, arguments: dict[str, Any]) -> Any:
    """A method of KatibClient; objects come back as JSON."""
    client = katib.KatibClient(config_file=config)
    found = getattr(client, method)(**arguments)
    if isinstance(found, types.GeneratorType):
        return list(found)
    try:
        return _models.sanitize_for_serialization(found)
    except AttributeError:  # messages of gRPC, from get_trial_metrics
        return [json_format.MessageToDict(message) for message in found]


def create_model(config: str, experiment: dict[str, Any]) -> Any:
    """create_experiment with a V1beta1Experiment instead of a dict."""
    model = _models.deserialize(FakeResponse(experiment), katib.V1beta1Experiment)
    return call(config, "create_experiment", {"experiment": model})


def objective(parameters):  # type: ignore[no-untyped-def]
    """What tune() sends. It runs in a trial, alone: no names of this module, values are texts."""
    import time

    loss = (float(parameters["x"]) - 1) ** 2 + (0 if parameters["kind"] == "good" else 10)
    for _ in range(2):
        print(f"loss={loss + int(parameters['steps'])}", flush=True)
        time.sleep(0.01)


def tune(config: str, name: str) -> Any:
    """tune() with every kind of katib.search, and one constant."""
    searched = {
        "x": katib.search.double(min=-2, max=2),
        "steps": katib.search.int(min=1, max=3),
        "kind": katib.search.categorical(["good", "bad"]),
        "constant": 7,
    }
    return call(
        config,
        "tune",
        {
            "name": name,
            "objective": objective,
            "parameters": searched,
            "objective_metric_name": "loss",
            "objective_type": "minimize",
            "algorithm_name": "random",
            "max_trial_count": 2,
            "parallel_trial_count": 2,
            "resources_per_trial": {"cpu": "100m"},
        },
    )


def watched(config: str, plural: str, count: int) -> list[tuple[str, str]]:
    """The first events that the official client's Watch tells: what happened to whom."""
    client = katib.KatibClient(config_file=config)
    watch = kubernetes.watch.Watch()
    events = watch.stream(
        client.custom_api.list_namespaced_custom_object,
        "kubeflow.org",
        "v1beta1",
        "default",
        plural,
        timeout_seconds=int(WAIT_S),
    )
    return [(event["type"], event["object"]["metadata"]["name"]) for event in islice(events, count)]


# ---- gRPC ---------------------------------------------------------------------------------------


def stub(target: str, service: str, method: str, request: dict[str, Any]) -> Any:
    """A method of a Katib service, through the stubs of the wheel."""
    message = getattr(katib_api_pb2, f"{method}Request")()
    json_format.ParseDict(request, message)
    with grpc.insecure_channel(target) as channel:
        made = getattr(katib_api_pb2_grpc, f"{service}Stub")(channel)
        reply = getattr(made, method)(message, timeout=WAIT_S, wait_for_ready=True)
    return json_format.MessageToDict(reply)


def health(target: str, service: str) -> str:
    """SERVING, and so on."""
    with grpc.insecure_channel(target) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S, wait_for_ready=True
        )
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


# ---- the loop -----------------------------------------------------------------------------------


def told(error: BaseException | None) -> str:
    """An error with what caused it: Katib's client keeps the server's words only there."""
    if error is None:
        return ""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}\n{told(error.__cause__ or error.__context__)}"


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # the client prints progress
    known = {f.__name__: f for f in (call, create_model, tune, watched, stub, health)}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": known[asked["function"]](**asked["arguments"])}
        except Exception as error:  # noqa: BLE001 - all of it is the answer
            answer = {"error": told(error)}
        print(json.dumps(answer), file=answers, flush=True)


main()
