# SPDX-License-Identifier: Apache-2.0
"""The service under test, as calls that answer or raise: a port, and gRPC behind it.

`lab` asks through the port `Service`; tests of the verdicts may put anything behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb

Reply = TypeVar("Reply")

_SILENCE: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED")

_OPTIONS: Final = [
    # What is too large is for the service to say, not for us.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class CallFailed(Exception):
    """A call ended with a status. `code` is its name: INVALID_ARGUMENT, UNAVAILABLE, ..."""

    def __init__(self, method: str, code: str, details: str) -> None:
        super().__init__(f"{method} answered {code}: {details}" if details else f"{method}: {code}")
        self.method = method
        self.code = code
        self.details = details


class Unreachable(Exception):
    """Nobody accepts connections at the target."""

    def __init__(self, target: str, seconds: float) -> None:
        super().__init__(f"nobody answers at {target} within {seconds:g} seconds")
        self.target = target


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a call took."""

    method: str
    trials: int
    seconds: float


class Service(Protocol):
    """Katib's suggestion service. Every call may raise CallFailed."""

    @property
    def target(self) -> str: ...

    @property
    def timeout_s(self) -> float:
        """The deadline of each call."""
        ...

    @property
    def slowest(self) -> Timed | None:
        """Of the calls so far."""
        ...

    def validate(self, experiment: pb.Experiment) -> None: ...

    def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply: ...

    def health(self, name: str) -> str:
        """SERVING, NOT_SERVING, ..."""
        ...

    def reconnect(self, seconds: float) -> None:
        """Drops the connection and waits for another one. Raises Unreachable."""
        ...


class GrpcService:
    """A service at `host:port` or `unix:/path`, without TLS as everywhere in Katib."""

    def __init__(self, target: str, timeout_s: float) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.slowest: Timed | None = None
        self._channel: Any = grpc.insecure_channel(target, options=_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def validate(self, experiment: pb.Experiment) -> None:
        request = pb.ValidateAlgorithmSettingsRequest(experiment=experiment)
        self._katib("ValidateAlgorithmSettings", request, 0)

    def suggest(self, request: pb.GetSuggestionsRequest) -> pb.GetSuggestionsReply:
        reply: pb.GetSuggestionsReply = self._katib("GetSuggestions", request, len(request.trials))
        return reply

    def health(self, name: str) -> str:
        check = health_pb2_grpc.HealthStub(self._channel).Check
        request = health_pb2.HealthCheckRequest(service=name)
        reply = self._timed("Check", 0, lambda: check(request, timeout=self.timeout_s))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    def wait(self, seconds: float) -> None:
        """Waits until somebody answers, be it with a refusal. Raises Unreachable."""
        check = health_pb2_grpc.HealthStub(self._channel).Check
        try:
            check(health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code().name in _SILENCE:
                raise Unreachable(self.target, seconds) from None

    def reconnect(self, seconds: float) -> None:
        self._channel.close()
        self._channel = grpc.insecure_channel(self.target, options=_OPTIONS)
        self.wait(seconds)

    def _katib(self, name: str, request: object, trials: int) -> Any:
        method = wire.call(self._channel, wire.KATIB_SUGGESTION, name)
        return self._timed(name, trials, lambda: method(request, timeout=self.timeout_s))

    def _timed(self, method: str, trials: int, call: Callable[[], Reply]) -> Reply:
        began = time.monotonic()
        try:
            return call()
        except grpc.RpcError as error:
            raise CallFailed(method, error.code().name, error.details() or "") from None
        finally:
            timed = Timed(method, trials, time.monotonic() - began)
            if self.slowest is None or timed.seconds > self.slowest.seconds:
                self.slowest = timed
