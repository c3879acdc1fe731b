# SPDX-License-Identifier: Apache-2.0
"""`Guard`: stands before every RPC of a server in a cluster, and asks who calls and whether he may.

Until that is known nothing of a request is read, and until a caller may use a method at all nothing
is decoded. Health checks pass: kubelet has nothing to show. Made by the servers of observation/ and
suggestion/; each brings its own `Rules`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from tunesmith_api.errors import Unavailable
from tunesmith_proto.callers import (
    CALLER,
    Account,
    Caller,
    Identify,
    NotAuthenticated,
    ServiceCaller,
    TrialCaller,
)

_log = logging.getLogger(__name__)

_HEALTH: Final = "/grpc.health.v1.Health/"
_EXEMPT: Final = _HEALTH + "Check"
_EVERYBODY: Final = ""
_TOLD_A_MINUTE: Final = 30

STREAMS_A_CONNECTION: Final = ("grpc.max_concurrent_streams", 256)
"""An option for servers with a guard: what one connection may begin at a time."""


class Rules(Protocol):
    """Who may what. Both answer with why not, in a sentence; an empty text lets pass."""

    def why_not_call(self, method: str, caller: Caller) -> str:
        """`method` is a path, "/service/Method"."""
        ...

    def why_not_this(self, method: str, caller: Caller, request: Any) -> str:
        """Pre: the caller may call the method."""
        ...


class OnlyFor:
    """The `Rules` of a service that is for some service accounts alone."""

    def __init__(self, accounts: frozenset[Account]) -> None:
        self._accounts = accounts

    def why_not_call(self, method: str, caller: Caller) -> str:
        account = isinstance(caller, ServiceCaller) and (caller.namespace, caller.account)
        if account in self._accounts:
            return ""
        return f"{method} is not for {caller}: only for tunesmith's controller"

    def why_not_this(self, method: str, caller: Caller, request: Any) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """at_once: calls of everybody. each: calls of one pod or address. read_s: how long a request
    may take to arrive, in seconds."""

    at_once: int = 2048
    each: int = 8
    read_s: float = 60.0


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """For one server and its event loop."""

    def __init__(self, identify: Identify, rules: Rules, limits: GuardLimits | None = None) -> None:
        self._identify, self._rules = identify, rules
        self._limits = limits or GuardLimits()
        self._calls: Counter[Hashable] = Counter()
        self._handlers: dict[str, Any] = {}
        self._told = _Told()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        """The method's handler behind this guard; None when there is no such method."""
        handler = await continuation(details)
        method: str = details.method
        if handler is None or method == _EXEMPT:
            return handler
        if method.startswith(_HEALTH):
            return None  # nobody needs to be told of changes, for as long as he likes
        if method not in self._handlers:
            self._handlers[method] = self._guarded(method, handler)
        return self._handlers[method]

    def _guarded(self, method: str, handler: Any) -> Any:
        """A handler of streams: it is called before a request is there."""
        if handler.request_streaming:
            raise NotImplementedError(f"{method} takes a stream of requests")

        async def reply(_: Any, context: Any) -> Any:
            with self._counted(method, context) as call:
                request = await self._admitted(call, handler.request_deserializer)
                return await handler.unary_unary(request, context)

        async def replies(_: Any, context: Any) -> AsyncIterator[Any]:
            with self._counted(method, context) as call:
                request = await self._admitted(call, handler.request_deserializer)
                async for each in handler.unary_stream(request, context):
                    yield each

        serializer = handler.response_serializer
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(replies, None, serializer)
        return grpc.stream_unary_rpc_method_handler(reply, None, serializer)

    async def _admitted(self, call: _Call, decode: Callable[[bytes], Any] | None) -> Any:
        """The request, of a caller who may make it."""
        if self._calls[_EVERYBODY] > self._limits.at_once:
            await call.refuse(grpc.StatusCode.UNAVAILABLE, "too many calls at once; repeat")
        caller = await self._caller(call)
        call.begins(_counted_as(caller))
        if self._calls[_counted_as(caller)] > self._limits.each and not _is_service(caller):
            sentence = f"{caller} makes more than {self._limits.each} calls at once; repeat"
            await call.refuse(grpc.StatusCode.UNAVAILABLE, sentence)
        if sentence := self._rules.why_not_call(call.method, caller):
            await self._deny(call, sentence)
        request = await self._read(call, decode)
        if sentence := self._rules.why_not_this(call.method, caller, request):
            await self._deny(call, sentence)
        CALLER.set(caller)
        return request

    async def _caller(self, call: _Call) -> Caller:
        try:
            return await self._identify(call.context)
        except NotAuthenticated as error:
            self._told.say("%s from %s: %s", call.method, call.context.peer(), error)
            await call.refuse(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Unavailable as error:
            await call.refuse(grpc.StatusCode.UNAVAILABLE, f"nobody can tell who calls: {error}")

    async def _deny(self, call: _Call, sentence: str) -> NoReturn:
        self._told.say("denied: %s", sentence)
        await call.refuse(grpc.StatusCode.PERMISSION_DENIED, sentence)

    async def _read(self, call: _Call, decode: Callable[[bytes], Any] | None) -> Any:
        try:
            async with asyncio.timeout(self._limits.read_s):
                message = await call.context.read()
        except TimeoutError:
            sentence = f"the request did not come within {self._limits.read_s:g} s"
            await call.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, sentence)
        if message is grpc.aio.EOF:
            await call.refuse(grpc.StatusCode.INVALID_ARGUMENT, "there is no request")
        try:
            return message if decode is None else decode(message)
        except DecodeError as error:
            await call.refuse(grpc.StatusCode.INVALID_ARGUMENT, f"no such message: {error}")

    @contextmanager
    def _counted(self, method: str, context: Any) -> Iterator[_Call]:
        call = _Call(method, context, self._calls)
        call.begins(_EVERYBODY)
        try:
            yield call
        finally:
            call.ends()


def _is_service(caller: Caller) -> bool:
    return isinstance(caller, ServiceCaller)


def _counted_as(caller: Caller) -> Hashable:
    if isinstance(caller, TrialCaller):
        return caller.trial_uid, caller.pod
    return caller


class _Call:
    """One call, and as what it is counted while it lasts."""

    def __init__(self, method: str, context: Any, calls: Counter[Hashable]) -> None:
        self.method, self.context = method, context
        self._calls = calls
        self._counted: list[Hashable] = []

    def begins(self, name: Hashable) -> None:
        self._counted.append(name)
        self._calls[name] += 1

    def ends(self) -> None:
        for name in self._counted:
            self._calls[name] -= 1
            if not self._calls[name]:
                del self._calls[name]

    async def refuse(self, code: Any, sentence: str) -> NoReturn:
        await self.context.abort(code, sentence)
        raise AssertionError("abort raises")


class _Told:
    """Log lines about what was refused, of which a stranger can cause as many as he likes."""

    def __init__(self) -> None:
        self._since, self._lines, self._left_out = time.monotonic(), 0, 0

    def say(self, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now - self._since >= 60:
            if self._left_out:
                _log.warning("%d more calls were refused", self._left_out)
            self._since, self._lines, self._left_out = now, 0, 0
        if self._lines < _TOLD_A_MINUTE:
            self._lines += 1
            _log.warning(text, *arguments)
        else:
            self._left_out += 1
