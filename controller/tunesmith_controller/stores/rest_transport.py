# SPDX-License-Identifier: Apache-2.0
"""How `RestStore` reaches a Kubernetes-shaped API: a small protocol, and ours over httpx.

The protocol knows nothing of objects, so that another client's connections and credentials can be
put below the same store. `HttpTransport` serves the local API: a base URL and a bearer token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from tunesmith_controller.ports import Unavailable

_CONNECT_S = 5.0
_ANSWER_S = 60.0
"""The Kubernetes API server gives up on a request after as long."""
_IDLE_S = 3.0
"""Idle connections are dropped before the server does so (uvicorn: after 5 s), because a request
that meets a closing connection fails without anybody's fault."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """`path` begins with "/" and is percent-encoded already; `query` is not."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class ApiReply:
    """An answer of any status; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class ApiStream(Protocol):
    """An answer whose body is read line by line. When its status is not 200, `reply` has the whole
    body and there are no lines."""

    @property
    def reply(self) -> ApiReply: ...

    async def next_line(self) -> bytes | None:
        """The next whole line, without its end; None once the server has ended the answer. Raises
        Unavailable when the connection breaks, or is silent for too long."""
        ...

    async def aclose(self) -> None: ...


class ApiTransport(Protocol):
    """Sends requests with the caller's identity; it never repeats one and follows no redirect."""

    async def request(self, request: ApiRequest) -> ApiReply:
        """Raises Unavailable when no answer comes, whether or not the request took effect."""
        ...

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        """`silence_s` bounds the wait for each line. Raises Unavailable."""
        ...


class HttpTransport:
    """`ApiTransport` over httpx. Belongs to the event loop that first uses it; `aclose` it there.

    Proxies of the environment are ignored: the local API is on this machine.
    """

    def __init__(self, base_url: str, token: str = "", *, answer_s: float = _ANSWER_S) -> None:
        headers = {"Accept": "application/json", "User-Agent": "tunesmith"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self._url,
            headers=headers,
            timeout=httpx.Timeout(answer_s, connect=_CONNECT_S),
            # Watches hold a connection each, so the number of connections is not bounded.
            limits=httpx.Limits(max_keepalive_connections=20, keepalive_expiry=_IDLE_S),
            trust_env=False,
        )

    async def request(self, request: ApiRequest) -> ApiReply:
        try:
            response = await self._client.send(self._request(request))
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._unavailable(error) from error
        return _reply(response, response.content)

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        timeout = httpx.Timeout(silence_s, connect=_CONNECT_S)
        try:
            response = await self._client.send(self._request(request, timeout), stream=True)
            try:
                body = b"" if response.status_code == httpx.codes.OK else await response.aread()
            except BaseException:
                await response.aclose()
                raise
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._unavailable(error) from error
        return _HttpStream(self, response, _reply(response, body))

    async def aclose(self) -> None:
        """Closes every connection, those of watches too."""
        await self._client.aclose()

    def _request(self, request: ApiRequest, timeout: httpx.Timeout | None = None) -> httpx.Request:
        headers = {} if request.body is None else {"Content-Type": request.content_type}
        return self._client.build_request(
            request.method,
            request.path,
            params=dict(request.query),
            content=request.body,
            headers=headers,
            timeout=self._client.timeout if timeout is None else timeout,
        )

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self._url} does not answer: {str(error) or type(error).__name__}")


class Lines:
    """Whole lines out of chunks. Splits at line feeds only: JSON texts may hold other characters
    that Unicode calls ends of lines. What comes after the last line feed is no line yet."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._whole: list[bytes] = []

    def __bool__(self) -> bool:
        return bool(self._whole)

    def next(self) -> bytes:
        """The oldest line, without its end. Pre: there is one."""
        return self._whole.pop()

    def take(self, chunk: bytes) -> None:
        """The next chunk. Pre: all lines before it were taken."""
        first, *rest = chunk.split(b"\n")
        self._begun.append(first)
        if not rest:
            return
        lines = [b"".join(self._begun), *rest[:-1]]
        self._begun = [rest[-1]]
        self._whole = lines[::-1]


class _HttpStream:
    def __init__(self, transport: HttpTransport, response: httpx.Response, reply: ApiReply) -> None:
        self.reply = reply
        self._transport = transport
        self._response = response
        self._chunks: AsyncIterator[bytes] = response.aiter_bytes()
        self._lines = Lines()

    async def next_line(self) -> bytes | None:
        while not self._lines:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                return None  # a line without its end was cut off
            except (httpx.HTTPError, httpx.StreamError) as error:
                raise self._transport._unavailable(error) from error
            self._lines.take(chunk)
        return self._lines.next()

    async def aclose(self) -> None:
        await self._response.aclose()


def _reply(response: httpx.Response, body: bytes) -> ApiReply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return ApiReply(response.status_code, headers, body)
