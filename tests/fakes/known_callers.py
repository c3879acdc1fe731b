# SPDX-License-Identifier: Apache-2.0
"""Callers that are known beforehand, and calls of every method with some request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from tunesmith_api.errors import Unavailable
from tunesmith_proto import wire
from tunesmith_proto.callers import Caller, NotAuthenticated, Stranger
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.v1 import observations_pb2 as pb

OK = grpc.StatusCode.OK
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNKNOWN = grpc.StatusCode.UNAUTHENTICATED


class KnownCallers:
    """An `Authenticator` and an `AddressBook`: by token, and by address."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self.callers = dict(callers)
        self.is_away = False

    async def authenticate(self, token: str) -> Caller:
        if self.is_away:
            raise Unavailable("the book is closed")
        if token not in self.callers:
            raise NotAuthenticated("nobody knows the token")
        return self.callers[token]

    async def identify(self, address: str) -> Caller:
        if self.is_away:
            raise Unavailable("the book is closed")
        return self.callers.get(address) or Stranger(address)


def about(method: wire.Method, uid: str, attempt: int, trial: str, namespace: str) -> Message:
    """A request that would work, about that attempt."""
    match method.name:
        case "Report":
            key = pb.SourceKey(trial_uid=uid, attempt=attempt, source="stdout")
            row = pb.Row(seq=1, metric="loss", value="1")
            return pb.ReportRows(
                key=key, trial_name=trial, namespace=namespace, rows=[row], offset=9
            )
        case "ReportObservationLog":
            entry = api_pb2.MetricLog(
                time_stamp="2025-01-31T12:00:00Z", metric=api_pb2.Metric(name="loss", value="1")
            )
            log = api_pb2.ObservationLog(metric_logs=[entry])
            return api_pb2.ReportObservationLogRequest(trial_name=trial, observation_log=log)
    fields = set(method.request.DESCRIPTOR.fields_by_name)
    values: dict[str, Any] = {
        "trial_uid": uid,
        "attempt": attempt,
        "trial_name": trial,
        "reason": "it falls behind",
    }
    return method.request(**{name: values[name] for name in fields & set(values)})


async def answer(
    channel: Any, method: wire.Method, request: Message, token: str | None = None
) -> grpc.StatusCode:
    """The code of one call, made with that token, if with any."""
    call = wire.call(channel, method.service, method.name)
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    try:
        if method.streams_reply:
            async for _ in call(request, metadata=metadata, timeout=20):
                pass
        else:
            await call(request, metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


@asynccontextmanager
async def from_address(target: str, address: str) -> AsyncIterator[Any]:
    """A channel whose connections come from that address of this machine."""
    host, port = target.rsplit(":", 1)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
        await asyncio.gather(_copy(reader, back), _copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    here = server.sockets[0].getsockname()[1]
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{here}", options=options) as channel:
            yield channel
    finally:
        server.close()


async def _copy(source: Any, to: Any) -> None:
    try:
        while data := await source.read(65536):
            to.write(data)
            await to.drain()
    finally:
        to.close()
