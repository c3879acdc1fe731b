# SPDX-License-Identifier: Apache-2.0
"""What `KubernetesTransport` does with connections that break, renewed tokens and ended watches,
against a server whose every answer the test decides. tests/cluster has the real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from kubernetes.client import Configuration

from tunesmith_controller.ports import Unavailable
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport
from tunesmith_controller.stores.rest_transport import ApiRequest

pytestmark = pytest.mark.integration

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Takes the number of the request, from 1, and where to write; the connection is kept."""


@contextlib.asynccontextmanager
async def served(answer: Answer, heads: list[bytes]) -> AsyncIterator[Configuration]:
    """A server that notes the head of each request."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                heads.append(head)
                await answer(len(heads), writer)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    configuration = Configuration()
    configuration.host, configuration.proxy = f"http://{host}:{port}", None
    try:
        yield configuration
    finally:
        server.close()


def _length(head: bytes) -> int:
    for line in head.lower().splitlines():
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _ok(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def _chunk(writer: asyncio.StreamWriter, text: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(text), text))
    await writer.drain()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "POST"])
def test_a_request_whose_connection_breaks_is_told_and_never_repeated(method: str) -> None:
    async def breaks(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(OK)
        else:
            writer.close()

    async def scenario() -> int:
        heads: list[bytes] = []
        async with served(breaks, heads) as configuration:
            transport = KubernetesTransport(configuration)
            assert (await transport.request(ApiRequest("GET", "/a"))).body == b"{}"
            with pytest.raises(Unavailable, match="does not answer"):
                await transport.request(ApiRequest(method, "/a", body=b"{}"))
            await transport.aclose()
        return len(heads)

    assert asyncio.run(scenario()) == 2


def test_paths_and_queries_arrive_as_they_were_encoded() -> None:
    async def scenario() -> bytes:
        heads: list[bytes] = []
        async with served(_ok, heads) as configuration:
            transport = KubernetesTransport(configuration)
            query = {"labelSelector": "a in (b,c)"}
            await transport.request(ApiRequest("GET", "/apis/x%2Fy", query))
            await transport.aclose()
        return heads[0].splitlines()[0]

    line = asyncio.run(scenario())
    assert line == b"GET /apis/x%2Fy?labelSelector=a+in+%28b%2Cc%29 HTTP/1.1"


def test_a_watch_reads_whole_lines_and_ends_with_its_server() -> None:
    async def lines(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        await _chunk(writer, b'{"a":1}\n{"b"')
        await _chunk(writer, b":2}\ncut off")
        writer.write(b"0\r\n\r\n")

    async def scenario() -> list[bytes | None]:
        async with served(lines, []) as configuration:
            transport = KubernetesTransport(configuration)
            stream = await transport.stream(ApiRequest("GET", "/w"), silence_s=5.0)
            found = [await stream.next_line() for _ in range(3)]
            await stream.aclose()
            await transport.aclose()
        return found

    assert asyncio.run(scenario()) == [b'{"a":1}', b'{"b":2}', None]


@pytest.mark.parametrize("what", ["stream", "transport"])
def test_closing_wakes_whoever_waits_for_a_line(what: str) -> None:
    async def silent(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        await writer.drain()

    async def scenario() -> None:
        async with served(silent, []) as configuration:
            transport = KubernetesTransport(configuration)
            stream = await transport.stream(ApiRequest("GET", "/w"), silence_s=60.0)
            waiting = asyncio.ensure_future(stream.next_line())
            await asyncio.sleep(0)
            await (stream if what == "stream" else transport).aclose()
            with pytest.raises(Unavailable):
                await asyncio.wait_for(waiting, 5.0)
            await stream.aclose()
            await transport.aclose()

    asyncio.run(scenario())


def test_a_watch_that_is_silent_for_too_long_is_lost() -> None:
    async def silent(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        await writer.drain()

    async def scenario() -> None:
        async with served(silent, []) as configuration:
            transport = KubernetesTransport(configuration)
            stream = await transport.stream(ApiRequest("GET", "/w"), silence_s=0.2)
            with pytest.raises(Unavailable, match="does not answer"):
                await asyncio.wait_for(stream.next_line(), 10.0)
            await transport.aclose()

    asyncio.run(scenario())


def test_a_request_after_the_end_is_unavailable() -> None:
    async def scenario() -> None:
        async with served(_ok, []) as configuration:
            transport = KubernetesTransport(configuration)
            await transport.request(ApiRequest("GET", "/a"))
            await transport.aclose()
            with pytest.raises(Unavailable, match="closed"):
                await transport.request(ApiRequest("GET", "/a"))

    asyncio.run(scenario())


def test_a_token_is_asked_for_again_once_it_was_refused() -> None:
    asked: list[int] = []

    def renewed(configuration: Configuration) -> None:
        asked.append(1)
        configuration.api_key["authorization"] = f"Bearer {len(asked)}"

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(UNAUTHORIZED if number == 2 else OK)

    async def scenario() -> list[bytes]:
        heads: list[bytes] = []
        async with served(answer, heads) as configuration:
            configuration.api_key["authorization"] = "Bearer 0"
            configuration.refresh_api_key_hook = renewed
            transport = KubernetesTransport(configuration)
            statuses = [(await transport.request(ApiRequest("GET", "/a"))).status for _ in "123"]
            assert statuses == [200, 401, 200]
            await transport.aclose()
        lines = [line for head in heads for line in head.lower().splitlines()]
        return [line for line in lines if line.startswith(b"authorization")]

    first, second, third = asyncio.run(scenario())
    assert first == second == b"authorization: bearer 1"
    assert third == b"authorization: bearer 2"


def test_a_token_that_is_not_renewed_is_sent_as_it_is() -> None:
    async def scenario() -> bytes:
        heads: list[bytes] = []
        async with served(_ok, heads) as configuration:
            configuration.api_key["authorization"] = "Bearer fixed"
            transport = KubernetesTransport(configuration)
            await transport.request(ApiRequest("GET", "/a"))
            await transport.aclose()
        return heads[0].lower()

    assert b"authorization: bearer fixed" in asyncio.run(scenario())
