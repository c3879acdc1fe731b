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
from dataclasses import dataclass
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

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel made now. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """`ca_file`: PEM certificates of the authorities to trust. `token_file`: a bearer token that
    somebody renews in place; None to say nothing of oneself."""

    ca_file: Path
    token_file: Path | None = None

    def authorities(self) -> bytes:
        return self.ca_file.read_bytes()

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel made now: the CA is read now, the token before each call. Raises
        OSError."""
        return channel_credentials(self.authorities(), self.token_file)


def channel_credentials(authorities: bytes, token_file: Path | None) -> grpc.ChannelCredentials:
    """For a channel that trusts these authorities (PEM) and reads the token before each call."""
    tls = grpc.ssl_channel_credentials(authorities)
    if token_file is None:
        return tls
    token = grpc.metadata_call_credentials(_TokenOfNow(token_file), name="token")
    return grpc.composite_channel_credentials(tls, token)


class _TokenOfNow(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    """The kubelet replaces the file long before the token in it expires."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, context: Any, callback: Any) -> None:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            callback((), error)
            return
        callback(((_HEADER, f"Bearer {token}"),), None)


class FollowedChannel:
    """A grpc.aio channel, as far as `wire.call` uses one, to a service whose CA may change while it
    is open. For one event loop; each call begins on a channel that trusts the CA of that moment."""

    def __init__(self, trust: Trust, opened: Callable[[grpc.ChannelCredentials], Any]) -> None:
        """Opens the first one. Raises OSError."""
        self._trust, self._opened = trust, opened
        self._authorities = trust.authorities()
        self._channel = opened(trust.channel_credentials())
        self._retiring: set[asyncio.Task[None]] = set()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return self._current().unary_unary(*arguments, **options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return self._current().unary_stream(*arguments, **options)

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
            channel = self._opened(self._trust.channel_credentials())
        except OSError as error:
            _log.warning("the CA is taken to be what it was: %s", error)
            return self._channel
        retired, self._channel, self._authorities = self._channel, channel, authorities
        task = asyncio.ensure_future(retired.close(_LAST_CALLS_S))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return channel
