# SPDX-License-Identifier: Apache-2.0
"""`HttpTransport` against a server that says exactly what it is told, even half a message."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tunesmith_api.errors import Unavailable
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_transport import ApiRequest, HttpTransport
from tunesmith_controller.stores.rest_watch import WatchSettings

Handler = Callable[[bytes, asyncio.StreamWriter], Coroutine[Any, Any, None]]
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = ApiRequest("GET", "/x")


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[HttpTransport]:
    """A transport to a server that hands each request (its head) to `handler`, then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(await reader.readuntil(b"\r\n\r\n"), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}/", "secret", answer_s=0.5)
    try:
        yield transport
    finally:
        await transport.aclose()
        server.close()


def saying(*parts: bytes) -> Handler:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return handle


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


async def _lines(transport: HttpTransport) -> list[bytes]:
    stream = await transport.stream(GET, silence_s=5)
    lines = []
    while (line := await stream.next_line()) is not None:
        lines.append(line)
    await stream.aclose()
    return lines


def test_a_request_carries_the_token_and_its_query() -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(b"HTTP/1.1 418 Teapot\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno")

    async def scenario() -> None:
        async with served(handle) as transport:
            request = ApiRequest("GET", "/apis/x%20y", {"labelSelector": "a/b=c,d="})
            reply = await transport.request(request)
        assert (reply.status, reply.headers["retry-after"], reply.body) == (418, "3", b"no")
        assert heads[0].startswith(b"GET /apis/x%20y?labelSelector=a%2Fb%3Dc%2Cd%3D HTTP/1.1")
        assert b"authorization: bearer secret" in heads[0].lower()

    run(scenario())


def test_lines_end_at_line_feeds_only_wherever_the_network_cuts_them() -> None:
    first, second = '{"a":"\u2028\x85\x0b"}'.encode(), b'{"b":1}'
    whole = first + b"\n" + second + b"\n"
    pieces = [chunk(whole[at : at + 1]) for at in range(len(whole))]

    async def scenario() -> None:
        for body in (chunk(whole), b"".join(pieces)):
            async with served(saying(STREAM + body + chunk(b""))) as transport:
                assert await _lines(transport) == [first, second]

    run(scenario())


def test_a_line_that_is_cut_off_is_not_given() -> None:
    async def scenario() -> None:
        async with served(saying(STREAM, chunk(b'{"a":1}\n{"b"'), chunk(b""))) as transport:
            assert await _lines(transport) == [b'{"a":1}']

    run(scenario())


def test_the_body_of_a_refused_stream_is_read_whole() -> None:
    async def scenario() -> None:
        head = b"HTTP/1.1 410 Gone\r\nContent-Length: 7\r\n\r\n"
        async with served(saying(head, b"too ", b"old")) as transport:
            stream = await transport.stream(GET, silence_s=5)
            assert (stream.reply.status, stream.reply.body) == (410, b"too old")
            await stream.aclose()

    run(scenario())


@pytest.mark.parametrize(
    "parts",
    [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",), (b"SSH-2.0-x\r\n\r\n",)],
    ids=["closes", "breaks off", "speaks another language"],
)
def test_a_server_that_gives_no_answer_is_unavailable(parts: Sequence[bytes]) -> None:
    async def scenario() -> None:
        async with served(saying(*parts)) as transport:
            with pytest.raises(Unavailable, match=r"http://127.0.0.1:\d+ does not answer"):
                await transport.request(GET)

    run(scenario())


def test_a_server_that_hangs_is_unavailable_after_its_time() -> None:
    async def hang(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async def scenario() -> None:
        async with served(hang) as transport:
            with pytest.raises(Unavailable, match="does not answer"):
                await transport.request(GET)

    run(scenario())


def test_nobody_at_the_address_is_unavailable() -> None:
    async def scenario() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))  # bound, and not listening
            transport = HttpTransport(f"http://127.0.0.1:{probe.getsockname()[1]}")
            for call in (transport.request(GET), transport.stream(GET, silence_s=5)):
                with pytest.raises(Unavailable, match="does not answer"):
                    await call
            await transport.aclose()

    run(scenario())


# ---- a watch on it ------------------------------------------------------------------------------


def event(version: str) -> bytes:
    metadata: Json = {"name": "a", "namespace": "default", "resourceVersion": version}
    body = {"type": "MODIFIED", "object": {"kind": "Trial", "metadata": metadata}}
    return chunk(json.dumps(body).encode() + b"\n")


@pytest.mark.parametrize("ending", ["silence", "reset"])
def test_a_watch_notices_a_lost_connection_and_goes_on(ending: str) -> None:
    starts: list[bytes] = []

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        starts.append(head.split(b"resourceVersion=")[1].split(b"&")[0])
        writer.write(STREAM + event(str(len(starts) + 1)))
        await writer.drain()
        if ending == "silence":
            await asyncio.sleep(5)
        writer.transport.abort()

    async def scenario() -> None:
        async with served(handle) as transport:
            store = RestStore(transport, watching=WatchSettings(silence_s=0.2))
            watch = store.watch("Trial", resource_version="1")
            versions = [(await anext(watch)).object["metadata"]["resourceVersion"] for _ in "123"]
        assert versions == ["2", "3", "4"]
        assert starts == [b"1", b"2", b"3"]

    run(scenario())


def test_a_store_over_http_reads_an_object() -> None:
    body = json.dumps({"metadata": {"name": "a"}, "spec": {"text": "Grüße"}}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def scenario() -> None:
        async with served(saying(head, body)) as transport:
            found = await RestStore(transport).get(Key("Trial", "default", "a"))
        assert found["spec"] == {"text": "Grüße"}

    run(scenario())
