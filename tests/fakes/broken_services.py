# SPDX-License-Identifier: Apache-2.0
"""Suggestion services with one defect each, over gRPC in this process, for tests of `certify`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tunesmith_api.errors import Invalid
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.katib import KatibCore

Request = pb.GetSuggestionsRequest
Reply = pb.GetSuggestionsReply
MAX_BYTES = 64 * 1024 * 1024


class Honest:
    """Answers well. Subclasses spoil one thing."""

    healthy = True
    max_bytes = MAX_BYTES

    def __init__(self) -> None:
        self.core = KatibCore()
        self.end: Callable[[], None] = lambda: None
        self.over = threading.Event()

    def GetSuggestions(self, request: Request, context: Any) -> Reply:
        try:
            return self.answer(request)
        except Invalid as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    def ValidateAlgorithmSettings(
        self, request: pb.ValidateAlgorithmSettingsRequest, context: Any
    ) -> pb.ValidateAlgorithmSettingsReply:
        try:
            return self.judge(request)
        except Invalid as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    def answer(self, request: Request) -> Reply:
        return self.core.suggest(request)

    def judge(
        self, request: pb.ValidateAlgorithmSettingsRequest
    ) -> pb.ValidateAlgorithmSettingsReply:
        return self.core.validate(request)


@contextmanager
def served(service: Honest, folder: Path) -> Iterator[str]:
    """The target at which the service listens."""
    options = [
        ("grpc.max_receive_message_length", service.max_bytes),
        ("grpc.max_send_message_length", service.max_bytes),
    ]
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((wire.handler(wire.KATIB_SUGGESTION, service),))
    if service.healthy:
        checked = health.HealthServicer()
        checked.set(wire.KATIB_HEALTH_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checked, server)
    target = f"unix:{folder}/broken.sock"
    server.add_insecure_port(target)
    service.end = lambda: server.stop(None) and None
    server.start()
    try:
        yield target
    finally:
        service.over.set()
        server.stop(None).wait()


def _values(reply: Reply) -> Iterator[pb.ParameterAssignment]:
    for one in reply.parameter_assignments:
        yield from one.assignments


def _specs(request: Request) -> dict[str, pb.ParameterSpec]:
    return {spec.name: spec for spec in request.experiment.spec.parameter_specs.parameters}


# ---- points -------------------------------------------------------------------------------------


class OutsideBounds(Honest):
    """One step above a bound, now and then."""

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        specs = _specs(request)
        for value in _values(reply):
            spec = specs[value.name]
            if spec.parameter_type == pb.DOUBLE and len(request.trials) > 3:
                value.value = repr(float(spec.feasible_space.max) * 1.01 + 0.01)
        return reply


class IgnoresSteps(Honest):
    def answer(self, request: Request) -> Reply:
        plain = Request()
        plain.CopyFrom(request)
        for spec in plain.experiment.spec.parameter_specs.parameters:
            spec.feasible_space.step = ""
        del plain.trials[:]
        return super().answer(plain)


class WritesIntegersAsFloats(Honest):
    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        specs = _specs(request)
        for value in _values(reply):
            if specs[value.name].parameter_type == pb.INT:
                value.value = f"{value.value}.0"
        return reply


class InventsChoices(Honest):
    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        specs = _specs(request)
        for value in _values(reply):
            if specs[value.name].parameter_type == pb.CATEGORICAL:
                value.value = value.value.upper()
        return reply


class LeavesFixedParametersOut(Honest):
    def answer(self, request: Request) -> Reply:
        reply, specs = super().answer(request), _specs(request)
        for one in reply.parameter_assignments:
            kept = [v for v in one.assignments if len(specs[v.name].feasible_space.list) != 1]
            one.ClearField("assignments")
            one.assignments.extend(kept)
        return reply


# ---- batches and seeds --------------------------------------------------------------------------


class OneTooMany(Honest):
    def answer(self, request: Request) -> Reply:
        request.current_request_number += 1
        return super().answer(request)


class RepeatsTheBatch(Honest):
    """As if no trial had been told."""

    def answer(self, request: Request) -> Reply:
        del request.trials[:]
        request.total_request_number = request.current_request_number
        return super().answer(request)


class OnePointABatch(Honest):
    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        for one in reply.parameter_assignments:
            one.CopyFrom(reply.parameter_assignments[0])
        return reply


class EndsEarly(Honest):
    def answer(self, request: Request) -> Reply:
        return Reply() if len(request.trials) > 5 else super().answer(request)


class HasNoSeed(Honest):
    """random_state is accepted and not used."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = itertools.count()

    def answer(self, request: Request) -> Reply:
        for setting in request.experiment.spec.algorithm.algorithm_settings:
            if setting.name == "random_state":
                setting.value = str(next(self._calls))
        return super().answer(request)


class HasOneSeed(Honest):
    def answer(self, request: Request) -> Reply:
        for setting in request.experiment.spec.algorithm.algorithm_settings:
            setting.value = "5" if setting.name == "random_state" else setting.value
        return super().answer(request)


# ---- settings and health ------------------------------------------------------------------------


class AcceptsEverything(Honest):
    def judge(
        self, request: pb.ValidateAlgorithmSettingsRequest
    ) -> pb.ValidateAlgorithmSettingsReply:
        return pb.ValidateAlgorithmSettingsReply()


class RefusesEverything(Honest):
    def judge(
        self, request: pb.ValidateAlgorithmSettingsRequest
    ) -> pb.ValidateAlgorithmSettingsReply:
        raise Invalid("not today")


class HasNoHealth(Honest):
    healthy = False


# ---- trials -------------------------------------------------------------------------------------


class Remembers(Honest):
    """Works from its memory of what it suggested, so another trial is a KeyError: after a restart,
    all of them are."""

    def __init__(self) -> None:
        super().__init__()
        self._mine: set[tuple[str, str]] = set()

    def answer(self, request: Request) -> Reply:
        name = request.experiment.name
        for trial in request.trials:
            if (name, _point(trial.spec.parameter_assignments.assignments)) not in self._mine:
                raise KeyError(trial.name)
        reply = super().answer(request)
        self._mine |= {(name, _point(one.assignments)) for one in reply.parameter_assignments}
        return reply


class DiesOfUnknownTrials(Remembers):
    def answer(self, request: Request) -> Reply:
        try:
            return super().answer(request)
        except KeyError:
            self.end()
            raise


def _point(values: Any) -> str:
    return str(sorted((value.name, value.value) for value in values))


class RefusesLargeMessages(Honest):
    max_bytes = 4 * 1024 * 1024


class NeedsNumbers(Honest):
    def answer(self, request: Request) -> Reply:
        for trial in request.trials:
            for metric in trial.status.observation.metrics:
                float(metric.value)
        return super().answer(request)


class NeedsASuccess(Honest):
    def answer(self, request: Request) -> Reply:
        found = [t for t in request.trials if t.status.condition == pb.TrialStatus.SUCCEEDED]
        if request.trials and not found:
            raise ValueError("min() arg is an empty sequence")
        return super().answer(request)


class WantsEachTrialOnce(Honest):
    def answer(self, request: Request) -> Reply:
        names = [trial.name for trial in request.trials]
        if len(names) != len(set(names)):
            raise RuntimeError("trial is finished already")
        return super().answer(request)


class EndsWhilePointsAreLeft(Honest):
    def answer(self, request: Request) -> Reply:
        return Reply() if len(request.trials) == 2 else super().answer(request)


# ---- experiments beside each other --------------------------------------------------------------


class MixesExperiments(Honest):
    """One that is asked while another is being answered gets points of that other one."""

    def __init__(self) -> None:
        super().__init__()
        self._flying: dict[str, pb.Experiment] = {}
        self._met = threading.Condition()

    def answer(self, request: Request) -> Reply:
        name = request.experiment.name
        with self._met:
            self._flying[name] = request.experiment
            self._met.notify_all()
            self._met.wait_for(lambda: self._others(request), timeout=2.0)
            others = self._others(request)
        try:
            mixed = Request()
            mixed.CopyFrom(request)
            if others:
                mixed.experiment.CopyFrom(others[0])
            return super().answer(mixed)
        finally:
            with self._met:
                del self._flying[name]

    def _others(self, request: Request) -> list[pb.Experiment]:
        """Of another search space: their points cannot be taken for the right ones."""
        own = request.experiment.spec.parameter_specs
        return [each for each in self._flying.values() if each.spec.parameter_specs != own]


class ServesOneExperiment(Honest):
    """As Katib's images do: the first experiment fixes the search space and the settings."""

    def __init__(self) -> None:
        super().__init__()
        self._first: pb.ExperimentSpec | None = None

    def answer(self, request: Request) -> Reply:
        self._first = self._first or request.experiment.spec
        request.experiment.spec.CopyFrom(self._first)
        return super().answer(request)

    def restarted(self) -> None:
        self._first = None


class Stalls(Honest):
    """Never answers once it was told of a trial."""

    def answer(self, request: Request) -> Reply:
        if request.trials:
            self._wait_for_ever()
        return super().answer(request)

    def _wait_for_ever(self) -> NoReturn:
        self.over.wait()
        raise TimeoutError
