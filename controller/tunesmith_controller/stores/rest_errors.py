# SPDX-License-Identifier: Apache-2.0
"""What an answer of a Kubernetes API means, in our errors. Called by `RestStore` and its watches.

Source: Kubernetes API conventions, "HTTP Status codes" and "Response Status Kind".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import from_json

from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    Json,
    NotFound,
    PortError,
    Unavailable,
)
from tunesmith_controller.stores.rest_transport import ApiReply

_LONGEST_BODY = 300
_SAID_OF_THE_OBJECT = (
    "request is too large",
    "trying to send message larger than max",
    "resourceVersion should not be set on objects to be created",
)
"""What Kubernetes (1.34) calls an internal error and will say of the same object every time."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of a refused object: `field` is "spec.parameters[2].feasibleSpace.max"."""

    field: str
    message: str
    reason: str = ""


class Rejected(Invalid):
    """The server refuses the object; `causes` are the single faults, if it tells them."""

    def __init__(self, message: str, causes: Sequence[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class TryLater(Unavailable):
    """The server cannot answer now. `retry_after_s` is what it asks to wait, in seconds; None when
    it does not say."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Denied(Unavailable):
    """The server does not let this identity do this (401, 403). It may once the credentials or
    the rights are put right, so it is not Invalid."""


def decoded(text: bytes) -> Any:
    """Raises ValueError for what is no JSON."""
    try:
        return from_json(text)
    except ValueError:
        # It does not go as deep, and refuses half surrogate pairs; others could have stored both.
        return json.loads(text)


def json_of(reply: ApiReply) -> Json:
    """The object in a successful answer. Raises Unavailable when there is none."""
    try:
        found = decoded(reply.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"the API answered {reply.status} without an object: {_excerpt(reply)}")
    return cast(Json, found)


def raise_for(reply: ApiReply, doing: str) -> None:
    """Raises what an answer means, unless it is a success. `doing` is "create Trial/default/a"."""
    if 200 <= reply.status < 300:
        return
    status = _status_of(reply)
    raise error_of(status, reply.status, doing, reply.headers)


def error_of(
    status: Json, code: int, doing: str, headers: Mapping[str, str] | None = None
) -> PortError:
    """What a Status object means; `code` is the HTTP status that came with it."""
    message = _message(status, code, doing)
    reason = status.get("reason")
    if code == 404:
        return _absent(status, message)
    if code == 409:
        return AlreadyExists(message) if reason == "AlreadyExists" else Conflict(message)
    if code == 410:
        return Expired(message)
    if code in (401, 403):
        return Denied(message)
    if code == 500 and any(said in message for said in _SAID_OF_THE_OBJECT):
        return Rejected(message, _causes(status))
    if code in (408, 429) or code >= 500 or code < 400:
        return TryLater(message, _retry_after_s(status, headers or {}))
    return Rejected(message, _causes(status))


def _absent(status: Json, message: str) -> PortError:
    """An object is only gone when the API says so: a 404 of a proxy, or of a server that does not
    know the kind at all, must never look like the end of an object."""
    if status.get("kind") == "Status" and status.get("reason") == "NotFound":
        return NotFound(message)
    return Unavailable(f"{message} (the API does not know this path: is the kind installed?)")


def _status_of(reply: ApiReply) -> Json:
    try:
        found = json.loads(reply.body)
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status":
        return found
    return {"message": _excerpt(reply)}


def _excerpt(reply: ApiReply) -> str:
    return reply.body[:_LONGEST_BODY].decode(errors="replace").strip()


def _message(status: Json, code: int, doing: str) -> str:
    said = status.get("message") or status.get("reason") or f"status {code}"
    return f"{doing}: {said}"


def _causes(status: Json) -> list[Cause]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [_cause(cause) for cause in causes or [] if isinstance(cause, dict)]


def _cause(cause: Json) -> Cause:
    texts: list[Any] = [cause.get(field) or "" for field in ("field", "message", "reason")]
    return Cause(*map(str, texts))


def _retry_after_s(status: Json, headers: Mapping[str, str]) -> float | None:
    """Seconds; the form of the header that is a date is not used by Kubernetes."""
    details = status.get("details")
    asked = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    for value in (headers.get("retry-after"), asked):
        text = str(value or "")
        if text.isascii() and text.isdigit():
            return float(text)
    return None
