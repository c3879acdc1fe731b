# SPDX-License-Identifier: Apache-2.0
"""Who calls a service of a cluster, and who finds that out.

`guard.Guard` asks an `Authenticator` or an `AddressBook`, which tunesmith_controller/identity has
for Kubernetes; servicers learn the answer from `CALLER`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

AUDIENCE: Final = "tunesmith.dev/observation"
"""Of every token that is shown to a service of ours, the suggestion service included."""

_HEADER: Final = "authorization"
_SCHEME: Final = "bearer "
_LONGEST_TOKEN: Final = 8192


@dataclass(frozen=True, slots=True)
class TrialCaller:
    """A pod of an attempt of a trial."""

    trial_uid: str
    attempt: int
    namespace: str
    trial: str
    pod: str

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.pod} of attempt {self.attempt} of trial {self.trial}"


@dataclass(frozen=True, slots=True)
class ServiceCaller:
    """A service account, in a pod that is no trial's; `why` that is so."""

    namespace: str
    account: str
    why: str = ""

    def __str__(self) -> str:
        return f"service account {self.namespace}/{self.account}" + (self.why and f" ({self.why})")


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody at an address that is no trial's; `why` that is so."""

    address: str
    why: str = ""

    def __str__(self) -> str:
        return f"address {self.address}" + (self.why and f" ({self.why})")


Caller = TrialCaller | ServiceCaller | Stranger
Account = tuple[str, str]
"""Namespace and name of a service account."""

CALLER: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Of the call that is being answered; None where nobody is asked who he is."""


class NotAuthenticated(Exception):
    """It is not known who calls; the message says why."""


class Authenticator(Protocol):
    """Knows callers by what they show."""

    async def authenticate(self, token: str) -> Caller:
        """Raises NotAuthenticated, and Unavailable when nobody can tell at the moment."""
        ...


class AddressBook(Protocol):
    """Knows callers by where they call from."""

    async def identify(self, address: str) -> Caller:
        """`address` is an IP address. Raises Unavailable."""
        ...


Identify = Callable[[Any], Awaitable[Caller]]
"""Who calls, by the context of the call. Raises NotAuthenticated, Unavailable."""


def by_token(authenticator: Authenticator) -> Identify:
    """By the bearer token of a call."""

    async def identify(context: Any) -> Caller:
        return await authenticator.authenticate(bearer_token(context.invocation_metadata()))

    return identify


def by_address(book: AddressBook) -> Identify:
    """By the other end of the connection."""

    async def identify(context: Any) -> Caller:
        return await book.identify(peer_address(context.peer()))

    return identify


def bearer_token(metadata: Sequence[tuple[str, Any]] | None) -> str:
    """Raises NotAuthenticated."""
    shown = [value for name, value in metadata or () if name == _HEADER]
    if len(shown) != 1 or not isinstance(shown[0], str):
        raise NotAuthenticated(
            f"say who calls by one {_HEADER}: Bearer TOKEN, a service account's of audience"
            f" {AUDIENCE}; there are {len(shown)}"
        )
    token = shown[0][len(_SCHEME) :].strip()
    if not shown[0].lower().startswith(_SCHEME) or not token.isascii() or not token:
        raise NotAuthenticated(f"{_HEADER} is no bearer token")
    if len(token) > _LONGEST_TOKEN:
        raise NotAuthenticated(f"the token has more than {_LONGEST_TOKEN} characters")
    return token


def peer_address(peer: str) -> str:
    """The IP address in gRPC's name of the other end, IPv4 as such. Raises NotAuthenticated."""
    family, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host) if family in ("ipv4", "ipv6") else None
    except ValueError:
        address = None
    if address is None:
        raise NotAuthenticated(f"callers are known here by their IP address, and {peer!r} is none")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
