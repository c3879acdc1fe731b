# SPDX-License-Identifier: Apache-2.0
"""`GrpcSuggestionClient`: the SuggestionClient port over grpc.aio, for our services and Katib's.

A target that answers UNIMPLEMENTED to tunesmith.v1 is asked with Katib's api.v1.beta1 from then
on. Requests are idempotent, so one that found the connection broken is sent again, twice at most:
the first new try may meet the end of the same connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.problem import Problem
from tunesmith_controller.hosts import katib_suggestions
from tunesmith_controller.hosts.delta import DeltaConversation
from tunesmith_controller.ports import Ask, Endpoint, SearchEnded, Suggested
from tunesmith_proto import wire
from tunesmith_proto.credentials import FollowedChannel, Trust
from tunesmith_proto.katib import api_pb2 as katib_pb
from tunesmith_proto.v1 import suggestions_pb2 as pb

DEADLINE_S: Final = 60.0
"""Katib's deadline of a suggestion call."""
RECONNECT_S: Final = 5.0
"""How long a call that found its connection broken waits for a new one."""
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

Reply = TypeVar("Reply", bound=Message)
TrustOf = Callable[[str], Trust | None]


def _plaintext(_: str) -> None:
    return None


class Unimplemented(Unavailable):
    """The service does not know the method; never leaves this module's client."""


class GrpcSuggestionClient:
    """Keeps a channel a target and, an experiment, what its service confirmed."""

    def __init__(
        self,
        *,
        deadline_s: float = DEADLINE_S,
        reconnect_s: float = RECONNECT_S,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        trust: TrustOf = _plaintext,
    ) -> None:
        """`trust(target)` is how a service is trusted and told who calls, None for plain text: a
        Unix socket, or a service of other people in a cluster."""
        self._channels = _Channels(
            deadline_s, min(reconnect_s, deadline_s), max_message_bytes, trust
        )
        self._conversation = DeltaConversation(self._channels, chunk_bytes=max_message_bytes // 4)
        self._katib_targets: set[str] = set()

    async def validate(self, endpoint: Endpoint, problem: Problem) -> Sequence[str]:
        target = endpoint.target
        if target not in self._katib_targets:
            try:
                return await self._conversation.validate(target, problem)
            except Unimplemented:
                self._katib_targets.add(target)
        return await self._validate_katib(target, problem)

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded:
        target = endpoint.target
        if target not in self._katib_targets:
            try:
                return await self._conversation.suggest(target, ask)
            except Unimplemented:
                self._katib_targets.add(target)
        request = katib_suggestions.suggest_request(ask)
        reply = await self._channels.call(
            target,
            (wire.KATIB_SUGGESTION, "GetSuggestions"),
            request,
            katib_pb.GetSuggestionsReply,
        )
        return katib_suggestions.suggested(ask, reply)

    async def close(self) -> None:
        await self._channels.close()

    async def _validate_katib(self, target: str, problem: Problem) -> Sequence[str]:
        """Katib's rule: a service that does not validate accepts."""
        method = (wire.KATIB_SUGGESTION, "ValidateAlgorithmSettings")
        request = katib_suggestions.validate_request(problem)
        reply = katib_pb.ValidateAlgorithmSettingsReply
        try:
            await self._channels.call(target, method, request, reply)
        except Unimplemented:
            return []
        except Invalid as error:
            return [str(error)]
        return []


class _Channels:
    """One channel a target, and calls on it: the SuggestionTransport over the network."""

    def __init__(
        self,
        deadline_s: float,
        reconnect_s: float,
        max_message_bytes: int,
        trust: TrustOf,
    ) -> None:
        self._trust = trust
        self._deadline_s = deadline_s
        self._reconnect_s = reconnect_s
        self._options = _channel_options(max_message_bytes)
        self._channels: dict[str, Any] = {}

    async def validate(self, target: str, request: pb.ValidateRequest) -> pb.ValidateReply:
        return await self.call(target, (wire.SUGGESTIONS, "Validate"), request, pb.ValidateReply)

    async def suggest(self, target: str, request: pb.SuggestRequest) -> pb.SuggestReply:
        return await self.call(target, (wire.SUGGESTIONS, "Suggest"), request, pb.SuggestReply)

    async def call(
        self, target: str, method: tuple[str, str], request: Message, reply: type[Reply]
    ) -> Reply:
        """Raises Invalid, Unimplemented, Unavailable."""
        function = wire.call(self._channel(target), *method)
        timeout, ready = self._deadline_s, False
        for last in (False, False, True):
            try:
                return cast(Reply, await function(request, timeout=timeout, wait_for_ready=ready))
            except grpc.aio.AioRpcError as error:
                if last or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    _raise(target, error)
                timeout, ready = self._reconnect_s, True
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _channel(self, target: str) -> Any:
        if target not in self._channels:
            self._channels[target] = self._opened(target)
        return self._channels[target]

    def _opened(self, target: str) -> Any:
        trust = self._trust(target)
        if trust is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        return FollowedChannel(
            trust, lambda shown: grpc.aio.secure_channel(target, shown, options=self._options)
        )


def _channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.enable_http_proxy", 0),
        # A restarted service is found again within a second, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def _raise(target: str, error: grpc.aio.AioRpcError) -> NoReturn:
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            raise Invalid(details) from error
        case grpc.StatusCode.UNIMPLEMENTED:
            raise Unimplemented(details) from error
        case code:
            raise Unavailable(f"suggestion service at {target}: {code.name}: {details}") from error
