# SPDX-License-Identifier: Apache-2.0
"""`ApiTransport` to a cluster, with the official `kubernetes` client's configuration and
credentials: kubeconfigs, exec plugins, a pod's token and its renewal are its business.

Only bytes go through it, over aiohttp on the caller's event loop. The library's typed API would
decode every object into models and drop fields that the models lack, and its connections would cost
a change of threads for each request and for each piece of a watch.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import kubernetes
import yaml
from kubernetes.client import Configuration
from kubernetes.client.rest import should_bypass_proxies
from yarl import URL

from tunesmith_controller.ports import Unavailable
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiStream, Lines

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
"""The Kubernetes API server gives up on a request after as long."""
_REQUESTS_AT_ONCE: Final = 16
_IDLE_S: Final = 30.0
"""Idle connections are dropped before the server (after 90 s) or what stands before it does so,
because a request that meets a closing connection fails without anybody's fault."""
_BUFFERED: Final = 1 << 18
"""Bytes of an answer that may wait to be read."""
_RETRIES_S: Final = 60.0
"""How long in all a request may be put off by a server that is too busy (429)."""
_LONGEST_PAUSE_S: Final = 10.0
_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = 401
_CREDENTIALS_S: Final = 10.0
"""How long credentials that are renewed are used before the library is asked for them again."""


class NoCluster(Exception):
    """There is no usable configuration; the message is for people."""


class KubernetesTransport:
    """A bounded number of requests at once, and any number of watches. Belongs to the event loop
    that first uses it; `aclose` it there."""

    def __init__(self, configuration: Configuration, *, answer_s: float = _ANSWER_S) -> None:
        self._configuration = configuration
        self._credentials = _Credentials(configuration)
        self._answer_s = answer_s
        self._at_once = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self._connections: aiohttp.ClientSession | None = None
        self._streams: set[_Stream] = set()

    @classmethod
    def from_config(
        cls, kubeconfig: str | None = None, context: str | None = None
    ) -> KubernetesTransport:
        """That of a pod when it runs in one and no file is named, else of a kubeconfig (KUBECONFIG,
        ~/.kube/config). Raises NoCluster."""
        return cls(configuration_of(kubeconfig, context))

    @property
    def url(self) -> str:
        """Of the API server."""
        return str(self._configuration.host)

    async def request(self, request: ApiRequest) -> ApiReply:
        """A server that is too busy to take a request (429) is asked again when it said, for a
        minute at most: it has done nothing with it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RETRIES_S
        while True:
            reply = await self._sent(request)
            pause = min(_seconds(reply.headers.get("retry-after")), _LONGEST_PAUSE_S)
            if reply.status != _TOO_MANY or not pause or loop.time() + pause > deadline:
                return reply
            await asyncio.sleep(pause)

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        response = await self._begun(request, read_s=silence_s)
        try:
            with self.telling():
                body = b"" if response.status == 200 else await response.read()
        except BaseException:
            response.close()
            raise
        found = _Stream(self, response, body)
        self._streams.add(found)
        return found

    async def aclose(self) -> None:
        """Ends the watches too."""
        for stream in list(self._streams):
            await stream.aclose()
        if self._connections is not None:
            await self._connections.close()

    async def _sent(self, request: ApiRequest) -> ApiReply:
        async with self._at_once:
            response = await self._begun(request, read_s=self._answer_s)
            async with response:
                with self.telling():
                    body = await response.read()
        return ApiReply(response.status, _lower(response.headers), body)

    async def _begun(self, request: ApiRequest, *, read_s: float) -> aiohttp.ClientResponse:
        """An answer, as far as its headers. Raises Unavailable."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "tunesmith",
        }
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        query = f"?{urlencode(request.query)}" if request.query else ""
        with self.telling():
            response = await self._opened().request(
                request.method,
                URL(f"{self.url}{request.path}{query}", encoded=True),
                data=request.body,
                headers=headers | await self._credentials.headers(),
                timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=read_s),
                allow_redirects=False,
                server_hostname=self._configuration.tls_server_name,
            )
        if response.status == _UNAUTHORIZED:
            self._credentials.forget()
        return response

    def _opened(self) -> aiohttp.ClientSession:
        if self._connections is None:
            self._connections = _connections(self._configuration)
        return self._connections

    def forget(self, stream: _Stream) -> None:
        self._streams.discard(stream)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What a connection raises is Unavailable."""
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        except RuntimeError as error:
            if self._connections is None or not self._connections.closed:
                raise
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self.url} does not answer: {str(error) or type(error).__name__}")


class _Stream:
    """`ApiStream` over one connection; closing it ends a wait for a line at once."""

    def __init__(
        self, transport: KubernetesTransport, response: aiohttp.ClientResponse, body: bytes
    ) -> None:
        self.reply = ApiReply(response.status, _lower(response.headers), body)
        self._transport = transport
        self._response = response
        self._lines = Lines()

    async def next_line(self) -> bytes | None:
        while not self._lines:
            with self._transport.telling():
                chunk = await self._response.content.readany()
            if not chunk:
                return None  # a line without its end was cut off
            self._lines.take(chunk)
        return self._lines.next()

    async def aclose(self) -> None:
        self._transport.forget(self)
        self._response.close()


# ---- connections --------------------------------------------------------------------------------


class _Credentials:
    """The headers that say who asks. Those that are renewed are asked for on a thread, because
    renewing may run a program, and kept for a while."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._renewing = asyncio.Lock()
        self._kept: dict[str, str] | None = None
        self._until = 0.0

    async def headers(self) -> dict[str, str]:
        if self._configuration.refresh_api_key_hook is None:
            return self._asked()
        now = asyncio.get_running_loop().time()
        async with self._renewing:
            if self._kept is None or now >= self._until:
                self._kept = await asyncio.to_thread(self._asked)
                self._until = now + _CREDENTIALS_S
            return self._kept

    def forget(self) -> None:
        """They were not accepted."""
        self._kept = None

    def _asked(self) -> dict[str, str]:
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        named = (each for each in settings.values() if each.get("in") == "header")
        return {each["key"]: each["value"] for each in named if each.get("value")}


def _connections(configuration: Configuration) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(configuration), keepalive_timeout=_IDLE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_BUFFERED,
        proxy=_proxy(configuration),
    )
    # It would send a PUT or DELETE again when a kept connection breaks under it, and whoever
    # asked would then read its own write as somebody else's. There is no public switch.
    session._retry_connection = False
    return session


def _tls(configuration: Configuration) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError) for files that are none."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _proxy(configuration: Configuration) -> str | None:
    if configuration.proxy and not should_bypass_proxies(
        configuration.host, no_proxy=configuration.no_proxy or ""
    ):
        return str(configuration.proxy)
    return None


# ---- configuration ------------------------------------------------------------------------------


def configuration_of(kubeconfig: str | None, context: str | None) -> Configuration:
    """Raises NoCluster."""
    configuration = Configuration()
    library: Any = kubernetes.config  # some of its versions are typed, and only in parts
    try:
        if kubeconfig is None and context is None and _in_pod():
            library.load_incluster_config(client_configuration=configuration)
        else:
            library.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration
            )
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        where = kubeconfig or "KUBECONFIG or ~/.kube/config"
        raise NoCluster(
            f"no cluster to talk to: {error} (read from {where}); try `kubectl config get-contexts`"
        ) from error
    return configuration


def contexts_of(kubeconfig: str | None) -> list[str]:
    """Names. Raises NoCluster."""
    library: Any = kubernetes.config
    try:
        contexts, _ = library.list_kube_config_contexts(config_file=kubeconfig)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        raise NoCluster(str(error)) from error
    return [str(each["name"]) for each in contexts]


def _in_pod() -> bool:
    named = os.environ.get("KUBERNETES_SERVICE_HOST")
    return bool(named) and not os.environ.get("KUBECONFIG")


# ---- small parts --------------------------------------------------------------------------------


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _seconds(text: str | None) -> float:
    """Of a Retry-After header; 0 without one that is a number."""
    return float(text) if text and text.isascii() and text.isdigit() else 0.0
