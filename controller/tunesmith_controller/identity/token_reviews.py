# SPDX-License-Identifier: Apache-2.0
"""`TokenReviews`: callers by their service account tokens, as the API server knows them.

Made for the observation and the suggestion service of a cluster (sdk/tunesmith/cli). A token is
reviewed once a minute however often it is shown; what cannot be a token for us is not sent to the
API server at all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_controller.identity.answers import Kept, Shared
from tunesmith_controller.identity.trial_pods import NotATrials, TrialPods
from tunesmith_controller.ports import Json, PortError, Unavailable
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiTransport
from tunesmith_proto.callers import (
    AUDIENCE,
    Account,
    Caller,
    NotAuthenticated,
    ServiceCaller,
    TrialCaller,
)

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_SKEW_S: Final = 60.0
"""How far the API server's clock may be behind ours before we call a token expired in its stead."""


@dataclass(frozen=True, slots=True)
class ReviewSettings:
    """kept_s: how long an answer counts, at most until the token expires. refused_s: the same for
    those who are refused. most: answers that are kept. at_once, waiting: reviews."""

    audience: str = AUDIENCE
    kept_s: float = 60.0
    refused_s: float = 5.0
    most: int = 20_000
    at_once: int = 16
    waiting: int = 1000


class TokenReviews:
    """An `Authenticator`. For one event loop."""

    def __init__(
        self,
        transport: ApiTransport,
        own: frozenset[Account],
        pods: TrialPods | None = None,
        settings: ReviewSettings | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`own` are accounts of the installation, whose pods nobody looks at; nobody's at all
        without `pods`. `now` is what tokens' times are compared with."""
        self._transport, self._own, self._pods, self._now = transport, own, pods, now
        self._settings = settings or ReviewSettings()
        most = self._settings.most
        self._known: Kept[bytes, Caller] = Kept(most)
        self._refused: Kept[bytes, str] = Kept(most)
        self._reviews: Shared[bytes, Caller] = Shared(
            self._settings.at_once, self._settings.waiting
        )

    async def authenticate(self, token: str) -> Caller:
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        refused = self._refused.get(digest)
        if refused is not None:
            raise NotAuthenticated(refused)
        expires = self._read(token)
        return await self._reviews.one(digest, lambda: self._found(digest, token, expires))

    def _read(self, token: str) -> float:
        """When it expires, as it says itself. Raises NotAuthenticated for what no review can make
        a token for us."""
        claims = claims_of(token)
        audiences, expires = claims.get("aud"), claims.get("exp")
        listed = audiences if isinstance(audiences, list) else [audiences]
        if self._settings.audience not in listed:
            raise NotAuthenticated(f"the token is not for audience {self._settings.audience}")
        if not isinstance(expires, int | float):
            raise NotAuthenticated("the token does not say when it expires")
        if self._now() > expires + _SKEW_S:
            raise NotAuthenticated("the token has expired")
        return float(expires)

    async def _found(self, digest: bytes, token: str, expires: float) -> Caller:
        settings = self._settings
        try:
            status = await self._review(token)
            caller = await self._caller(status.get("user") or {})
        except NotAuthenticated as error:
            self._refused.put(digest, str(error), settings.refused_s)
            raise
        may_call = isinstance(caller, TrialCaller) or self._is_own(caller)
        seconds = settings.kept_s if may_call else settings.refused_s
        self._known.put(digest, caller, min(seconds, expires - self._now()))
        return caller

    async def _review(self, token: str) -> Json:
        """The status of an authenticated one. Raises NotAuthenticated, Unavailable."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._settings.audience]},
        }
        request = ApiRequest("POST", _PATH, body=json.dumps(body).encode())
        try:
            reply = await self._transport.request(request)
            raise_for(reply, "create TokenReview")
            status: Json = json_of(reply).get("status") or {}
        except PortError as error:
            raise Unavailable(f"tokens cannot be reviewed: {error}") from error
        if not status.get("authenticated"):
            raise NotAuthenticated(f"the API server refuses the token: {status.get('error') or ''}")
        if self._settings.audience not in (status.get("audiences") or []):
            raise NotAuthenticated(f"the token is not for audience {self._settings.audience}")
        return status

    async def _caller(self, user: Json) -> TrialCaller | ServiceCaller:
        parts = str(user.get("username", "")).split(":")
        if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
            raise NotAuthenticated("the token is no service account's")
        caller = ServiceCaller(parts[2], parts[3])
        if self._pods is None or self._is_own(caller):
            return caller
        extra = user.get("extra") or {}
        name, uid = _single(extra.get(_POD_NAME)), _single(extra.get(_POD_UID))
        if not name or not uid:
            return ServiceCaller(parts[2], parts[3], "its token is bound to no pod")
        try:
            return await self._pods.named(parts[2], name, uid)
        except NotATrials as error:
            return ServiceCaller(parts[2], parts[3], f"pod {name} is no trial's: {error}")

    def _is_own(self, caller: ServiceCaller) -> bool:
        return (caller.namespace, caller.account) in self._own


def claims_of(token: str) -> dict[str, Any]:
    """What a JSON Web Token says; nobody has verified it. Raises NotAuthenticated."""
    parts = token.split(".")
    try:
        if len(parts) != 3:
            raise ValueError("there are not three parts")
        payload = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.b64decode(payload, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise NotAuthenticated("the token is no service account's") from error
    if not isinstance(claims, dict):
        raise NotAuthenticated("the token is no service account's")
    return claims


def _single(values: Any) -> str:
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""
