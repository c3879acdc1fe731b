# SPDX-License-Identifier: Apache-2.0
"""Certificates and authorities are exchanged under running services and clients: no call is
refused for it, and nobody restarts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import Pair, authority

from tunesmith_proto import wire
from tunesmith_proto.credentials import FollowedChannel, Identity
from tunesmith_proto.listening import Listener, ListenError
from tunesmith_proto.v1 import observations_pb2 as pb

pytestmark = pytest.mark.integration


class Secret:
    """A folder as the kubelet mounts one: all files change at once, by one link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()

    def holds(self, **files: bytes) -> None:
        self._number += 1
        content = self.folder / f"..{self._number}"
        content.mkdir()
        for name, data in files.items():
            (content / name).write_bytes(data)
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        (self.folder / "..new").symlink_to(content.name)
        (self.folder / "..new").rename(self.folder / "..data")

    def has(self, pair: Pair) -> None:
        self.holds(crt=pair.certificate, key=pair.key)


class Slow:
    """Answers once it is let."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let = asyncio.Event()

    async def Fence(self, request: pb.FenceAttempts, context: Any) -> pb.FenceReply:
        if request.trial_uid == "slow":
            self.begun.set()
            await self.let.wait()
        return pb.FenceReply()


@asynccontextmanager
async def served(secret: Secret, service: Slow) -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((wire.handler(wire.OBSERVATIONS, service),))
    listener = Listener(
        "127.0.0.1:0", tls_cert=secret.folder / "crt", tls_key=secret.folder / "key"
    )
    target = listener.bind(server)
    await server.start()
    try:
        yield target
    finally:
        await server.stop(None)


def opened(target: str, credentials: Any) -> Any:
    # Each channel has connections of its own, as those of other processes have.
    return grpc.aio.secure_channel(
        target, credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    )


async def fence(channel: Any, uid: str = "quick", seconds: float = 5.0) -> None:
    await wire.call(channel, wire.OBSERVATIONS, "Fence")(
        pb.FenceAttempts(trial_uid=uid, attempt=1), timeout=seconds
    )


def shown(target: str) -> str:
    """The certificate that a new connection is shown."""
    host, port = target.rsplit(":", 1)
    return ssl.get_server_certificate((host, int(port)), timeout=5)


def text(pair: Pair) -> str:
    return pair.certificate.decode()


def test_an_exchanged_certificate_is_shown_to_who_comes_later_and_no_call_is_refused(
    tmp_path: Path,
) -> None:
    ours, secret = authority("ours"), Secret(tmp_path / "tls")
    first, second = ours.issue(), ours.issue()
    secret.has(first)

    async def scenario() -> None:
        service = Slow()
        async with served(secret, service) as target:
            trusting = grpc.ssl_channel_credentials(ours.pem)
            async with opened(target, trusting) as early:
                waiting = asyncio.create_task(fence(early, "slow", 30))
                await service.begun.wait()
                assert await asyncio.to_thread(shown, target) == text(first)
                calls = asyncio.create_task(_keep_calling(target, trusting))
                secret.has(second)
                assert await asyncio.to_thread(shown, target) == text(second)
                async with opened(target, trusting) as late:
                    await fence(late)
                await fence(early)
                service.let.set()
                await waiting
                assert await calls == 20

    asyncio.run(scenario())


async def _keep_calling(target: str, trusting: Any) -> int:
    """Each with a connection of its own."""
    for _ in range(20):
        async with opened(target, trusting) as channel:
            await fence(channel)
    return 20


def test_what_does_not_fit_is_not_served_with(tmp_path: Path) -> None:
    ours, secret = authority("ours"), Secret(tmp_path / "tls")
    first, second = ours.issue(), ours.issue()
    secret.has(first)

    async def scenario() -> None:
        async with served(secret, Slow()) as target:
            for bad in (
                {"crt": second.certificate, "key": first.key},
                {"crt": b"", "key": b""},
            ):
                secret.holds(**bad)
                assert await asyncio.to_thread(shown, target) == text(first)
            (tmp_path / "tls" / "..data").unlink()
            assert await asyncio.to_thread(shown, target) == text(first)
            secret.has(second)
            assert await asyncio.to_thread(shown, target) == text(second)

    asyncio.run(scenario())


def test_a_certificate_that_cannot_be_served_with_is_refused_at_the_start(tmp_path: Path) -> None:
    ours, secret = authority("ours"), Secret(tmp_path / "tls")
    secret.holds(crt=ours.issue().certificate, key=ours.issue().key)
    listener = Listener(
        "127.0.0.1:0", tls_cert=secret.folder / "crt", tls_key=secret.folder / "key"
    )
    with pytest.raises(ListenError, match=r"tls/key and .*tls/crt are no certificate and its key"):
        listener.check()


def test_a_client_follows_its_authority_and_lets_running_calls_end(tmp_path: Path) -> None:
    old, new = authority("old"), authority("new")
    server, trusted = Secret(tmp_path / "tls"), Secret(tmp_path / "ca")
    server.has(old.issue())
    trusted.holds(ca=old.pem)

    async def scenario() -> None:
        service = Slow()
        async with served(server, service) as target:
            identity = Identity(trusted.folder / "ca")
            channel = FollowedChannel(identity, lambda shown: opened(target, shown))
            waiting = asyncio.create_task(fence(channel, "slow", 30))
            await service.begun.wait()
            server.has(new.issue())
            trusted.holds(ca=new.pem)
            await fence(channel)
            trusted.holds(ca=old.pem)  # nobody is trusted for what he was once
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await fence(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            (trusted.folder / "..data").unlink()  # in the middle of an exchange
            trusted.holds(ca=new.pem)
            await fence(channel)
            service.let.set()
            await waiting
            await channel.close()

    asyncio.run(scenario())
