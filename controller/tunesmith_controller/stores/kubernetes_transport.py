# SPDX-License-Identifier: Apache-2.0
"""`ApiTransport` to a cluster, with the official `kubernetes` client's configuration, credentials
and connections: kubeconfigs, exec plugins, a pod's token and its renewal are its business.

Only bytes go through it. Its typed API would decode every object into models and drop fields that
the models lack.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import kubernetes
import urllib3
import yaml
from kubernetes.client import ApiClient, Configuration

from tunesmith_controller.ports import Unavailable
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiStream, Lines

T = TypeVar("T")

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0
"""The Kubernetes API server gives up on a request after as long."""
_REQUESTS_AT_ONCE: Final = 16
_CHUNK: Final = 1 << 16
_RETRIES_S: Final = 60.0
"""How long in all a request may be put off by a server that is too busy (429)."""
_LONGEST_PAUSE_S: Final = 10.0
_TOO_MANY: Final = 429


class NoCluster(Exception):
    """There is no usable configuration; the message is for people."""


class KubernetesTransport:
    """Requests on a bounded pool of threads, each watch on a thread of its own. Belongs to the
    event loop that uses it; `aclose` it there."""

    def __init__(self, configuration: Configuration, *, answer_s: float = _ANSWER_S) -> None:
        configuration.retries = False  # a request is never repeated behind our back
        configuration.connection_pool_maxsize = 4 * _REQUESTS_AT_ONCE
        self._configuration = configuration
        self._pool: Any = ApiClient(configuration).rest_client.pool_manager
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(_REQUESTS_AT_ONCE, "kubernetes")
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
            reply = await self._on_thread(lambda: self._sent(request))
            pause = min(_seconds(reply.headers.get("retry-after")), _LONGEST_PAUSE_S)
            if reply.status != _TOO_MANY or not pause or loop.time() + pause > deadline:
                return reply
            await asyncio.sleep(pause)

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        found = _Stream(self, request, silence_s)
        self._streams.add(found)
        try:
            await found.open()
        except BaseException:
            await found.aclose()
            raise
        return found

    async def aclose(self) -> None:
        for stream in list(self._streams):
            await stream.aclose()
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        self._pool.clear()

    def forget(self, stream: _Stream) -> None:
        self._streams.discard(stream)

    async def _on_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _sent(self, request: ApiRequest) -> ApiReply:
        """On a thread."""
        response = self.begin(request, read_s=self._answer_s, preload=True)
        return ApiReply(response.status, _lower(response.headers), response.data)

    def begin(self, request: ApiRequest, *, read_s: float, preload: bool) -> Any:
        """On a thread: the answer, with its body when `preload`. Raises Unavailable."""
        query = f"?{urlencode(request.query)}" if request.query else ""
        try:
            return self._pool.request(
                request.method,
                f"{self.url}{request.path}{query}",
                body=request.body,
                headers=self._headers(request),
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
                retries=False,
                redirect=False,
                preload_content=preload,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self.unavailable(error) from error

    def _headers(self, request: ApiRequest) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "tunesmith"}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        # Asked for each time: the library renews a pod's token behind this.
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        for setting in settings.values():
            if setting.get("in") == "header" and setting.get("value"):
                headers[setting["key"]] = setting["value"]
        return headers

    def unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self.url} does not answer: {str(error) or type(error).__name__}")


class _Stream:
    """`ApiStream` over one connection. A read waits on a thread of its own; closing the stream from
    the event loop ends such a wait at once."""

    def __init__(
        self, transport: KubernetesTransport, request: ApiRequest, silence_s: float
    ) -> None:
        self.reply = ApiReply(0, {})
        self._transport = transport
        self._request = request
        self._silence_s = silence_s
        self._thread = ThreadPoolExecutor(1, "kubernetes-watch")
        self._response: Any = None
        self._lines = Lines()
        self._closed = False

    async def open(self) -> None:
        """Raises Unavailable."""
        await self._wait(self._opened)

    async def next_line(self) -> bytes | None:
        while not self._lines:
            chunk = await self._wait(self._chunk)
            if not chunk:
                return None  # a line without its end was cut off
            self._lines.take(chunk)
        return self._lines.next()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._transport.forget(self)
        self._end_reading()
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        if self._response is not None:
            self._response.close()

    async def _wait(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _opened(self) -> None:
        response = self._transport.begin(self._request, read_s=self._silence_s, preload=False)
        self._response = response
        if self._closed:  # while the connection was made
            response.close()
            raise self._transport.unavailable(ConnectionError("the watch was closed"))
        whole = response.status != 200
        body = self._read(response.read) if whole else b""
        self.reply = ApiReply(response.status, _lower(response.headers), body)

    def _chunk(self) -> bytes:
        return self._read(lambda: self._response.read1(_CHUNK))

    def _read(self, call: Callable[[], bytes]) -> bytes:
        try:
            return call()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._transport.unavailable(error) from error

    def _end_reading(self) -> None:
        """A thread that waits for the server is woken by the end of its connection."""
        try:
            if self._response is not None:
                self._response.shutdown()
        except (ValueError, OSError, RuntimeError, NotImplementedError):
            return  # it is closed already


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
