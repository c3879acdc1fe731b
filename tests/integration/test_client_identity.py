# SPDX-License-Identifier: Apache-2.0
"""A client in a cluster trusts the installation's CA alone, and shows the token of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from authorities import Authority, authority

from tunesmith_api.errors import Unavailable
from tunesmith_api.problem import Problem
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.ports import Endpoint
from tunesmith_proto import wire
from tunesmith_proto.credentials import Identity
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.testing import GRID, a_problem

pytestmark = pytest.mark.integration


class Hears:
    """A Suggestions service that notes who calls."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def Validate(self, request: pb.ValidateRequest, context: Any) -> pb.ValidateReply:
        told = dict(context.invocation_metadata())
        self.callers.append(told.get("authorization", ""))
        return pb.ValidateReply()


@asynccontextmanager
async def served(hears: Hears, issuer: Authority) -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((wire.handler(wire.SUGGESTIONS, hears),))
    pair = issuer.issue()
    credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def asked(target: str, folder: Path, trusted: Authority, tokens: Sequence[str]) -> None:
    """Once for each token, which is written into the file before."""
    (folder / "ca.crt").write_bytes(trusted.pem)
    identity = Identity(folder / "ca.crt", folder / "token")
    client = GrpcSuggestionClient(deadline_s=5.0, reconnect_s=0.2, trust=lambda _: identity)
    problem: Problem = a_problem("grid", GRID)
    try:
        for token in tokens:
            (folder / "token").write_text(token + "\n")
            await client.validate(Endpoint(target), problem)
    finally:
        await client.close()


@pytest.fixture
def ours() -> Authority:
    return authority("ours")


def test_each_call_shows_the_token_that_is_in_the_file_then(
    tmp_path: Path, ours: Authority
) -> None:
    hears = Hears()

    async def scenario() -> None:
        async with served(hears, ours) as target:
            await asked(target, tmp_path, ours, ["first", "again", "renewed"])

    asyncio.run(scenario())
    assert hears.callers == ["Bearer first", "Bearer again", "Bearer renewed"]


def test_a_service_with_another_authoritys_certificate_is_told_nothing(
    tmp_path: Path, ours: Authority
) -> None:
    hears = Hears()

    async def scenario() -> None:
        async with served(hears, authority("another")) as target:
            await asked(target, tmp_path, ours, ["secret"])

    with pytest.raises(Unavailable):
        asyncio.run(scenario())
    assert hears.callers == []
