# SPDX-License-Identifier: Apache-2.0
"""What a caller of a guarded service can take from others: a bounded number of calls, and no call
that waits for him for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from known_callers import OK, KnownCallers, about, answer

from tunesmith_metrics_collector.sink import open_channel
from tunesmith_proto import wire
from tunesmith_proto.callers import CALLER, Caller, ServiceCaller, TrialCaller, by_token
from tunesmith_proto.guard import Guard, GuardLimits
from tunesmith_proto.v1 import observations_pb2 as pb

BUSY = grpc.StatusCode.UNAVAILABLE
FENCE = wire.SERVICES[wire.OBSERVATIONS]["Fence"]
CALLERS: dict[str, Caller] = {
    "pod": TrialCaller("uid", 1, "team", "trial", "pod"),
    "other pod": TrialCaller("uid", 1, "team", "trial", "pod-2"),
    "controller": ServiceCaller("kubeflow", "tunesmith-controller"),
}


class Everything:
    def why_not_call(self, method: str, caller: Caller) -> str:
        return ""

    def why_not_this(self, method: str, caller: Caller, request: Any) -> str:
        return ""


class Held:
    """Answers when it is let; notes whom."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.callers: list[Caller | None] = []

    async def Fence(self, request: pb.FenceAttempts, context: Any) -> pb.FenceReply:
        self.callers.append(CALLER.get())
        await self.let.wait()
        return pb.FenceReply()


@asynccontextmanager
async def guarded(folder: Path, held: Held, limits: GuardLimits) -> AsyncIterator[Any]:
    guard = Guard(by_token(KnownCallers(CALLERS)), Everything(), limits)
    server = grpc.aio.server(interceptors=[guard])
    server.add_generic_rpc_handlers((wire.handler(wire.OBSERVATIONS, held),))
    target = f"unix:{folder}/g.sock"
    server.add_insecure_port(target)
    await server.start()
    try:
        async with open_channel(target) as channel:
            yield channel
    finally:
        await server.stop(None)


def fences(channel: Any, caller: str, count: int) -> list[asyncio.Task[grpc.StatusCode]]:
    request = about(FENCE, "uid", 1, "", "")
    return [asyncio.create_task(answer(channel, FENCE, request, caller)) for _ in range(count)]


async def _begun(held: Held, count: int) -> None:
    async with asyncio.timeout(20):
        while len(held.callers) < count:
            await asyncio.sleep(0.01)


def test_one_pod_has_so_many_calls_and_leaves_others_theirs(tmp_path: Path) -> None:
    async def scenario() -> None:
        held = Held()
        async with guarded(tmp_path, held, GuardLimits(each=3)) as channel:
            first = fences(channel, "pod", 3)
            await _begun(held, 3)
            assert await asyncio.gather(*fences(channel, "pod", 2)) == [BUSY, BUSY]
            others = fences(channel, "other pod", 3) + fences(channel, "controller", 9)
            await _begun(held, 15)
            held.let.set()
            assert set(await asyncio.gather(*first, *others)) == {OK}
            assert await asyncio.gather(*fences(channel, "pod", 3)) == [OK, OK, OK]
        assert set(held.callers) == set(CALLERS.values())

    asyncio.run(scenario())


def test_everybody_together_has_so_many_calls(tmp_path: Path) -> None:
    async def scenario() -> None:
        held = Held()
        async with guarded(tmp_path, held, GuardLimits(at_once=4)) as channel:
            first = fences(channel, "controller", 4)
            await _begun(held, 4)
            for caller in ("pod", "controller", "a stranger"):
                assert await asyncio.gather(*fences(channel, caller, 1)) == [BUSY]
            held.let.set()
            assert set(await asyncio.gather(*first)) == {OK}

    asyncio.run(scenario())


def test_a_request_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path, Held(), GuardLimits(read_s=0.2)) as channel:
            call = channel.stream_unary(FENCE.path)(
                metadata=[("authorization", "Bearer pod")], timeout=20
            )
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

            async def nothing() -> AsyncIterator[bytes]:
                for each in list[bytes]():
                    yield each

            empty = channel.stream_unary(FENCE.path)(
                nothing(), metadata=[("authorization", "Bearer pod")], timeout=20
            )
            assert await empty.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())
