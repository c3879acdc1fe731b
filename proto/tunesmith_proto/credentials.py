# SPDX-License-Identifier: Apache-2.0
"""How a client of ours trusts a service of ours in a cluster, and says who it is: by the CA of the
installation and the pod's projected service-account token. Used by every gRPC client there.

gRPC takes a channel's CA once. So a client that outlives a CA uses `FollowedChannel`, which opens
another channel when the CA becomes another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

_log = logging.getLogger(__name__)

_HEADER: Final = "authorization"
_LAST_CALLS_S: Final = 60.0
"""How long calls may go on over a channel that nobody begins a call on any more."""


class Trust(Protocol):
    """Whom a client trusts and how it says who it is; `Identity` with files is one."""

    def authorities(self) -> bytes:
        """PEM, as they are now. Raises OSError while they cannot be read."""
        ...

    def token(self) -> str | None:
        """As it is now; None to say nothing of oneself. Raises OSError, ValueError as above."""
        ...


class TokenFile:
    """A bearer token that somebody replaces in place, as the kubelet does long before it expires;
    read when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._token = ""

    def __call__(self) -> str:
        """Raises OSError, ValueError."""
        found = self._path.stat()
        seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._token = self._path.read_text(encoding="ascii").strip()
            self._seen = seen
        return self._token


class Identity:
    """`ca_file`: PEM certificates of the authorities to trust. `token_file`: see TokenFile; None to
    say nothing of oneself."""

    def __init__(self, ca_file: Path, token_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._token = None if token_file is None else TokenFile(token_file)

    def authorities(self) -> bytes:
        return self._ca_file.read_bytes()

    def token(self) -> str | None:
        return None if self._token is None else self._token()


class FollowedChannel:
    """A grpc.aio channel, as far as `wire.call` uses one, to a service whose CA may change while it
    is open. For one event loop; each call begins on a channel that trusts the CA of that moment and
    shows the token of that moment.

    The token is metadata of the call: gRPC's own way for it begins a thread for each call.
    """

    def __init__(self, trust: Trust, opened: Callable[[grpc.ChannelCredentials], Any]) -> None:
        """Opens the first one. Raises OSError."""
        self._trust, self._opened = trust, opened
        self._authorities = trust.authorities()
        self._channel = self._opened(grpc.ssl_channel_credentials(self._authorities))
        self._retiring: set[asyncio.Task[None]] = set()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return self._shown(self._current().unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return self._shown(self._current().unary_stream(*arguments, **options))

    async def close(self) -> None:
        """Ends every call."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._channel.close()

    def _current(self) -> Any:
        try:
            authorities = self._trust.authorities()
            if authorities == self._authorities:
                return self._channel
            channel = self._opened(grpc.ssl_channel_credentials(authorities))
        except OSError as error:
            _log.warning("the CA is taken to be what it was: %s", error)
            return self._channel
        retired, self._channel, self._authorities = self._channel, channel, authorities
        task = asyncio.ensure_future(retired.close(_LAST_CALLS_S))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return channel

    def _shown(self, call: Callable[..., Any]) -> Callable[..., Any]:
        try:
            token = self._trust.token()
        except (OSError, ValueError) as error:
            _log.warning("a call says nothing of who we are, the token is unreadable: %s", error)
            return call
        return partial(call, metadata=((_HEADER, f"Bearer {token}"),)) if token else call
