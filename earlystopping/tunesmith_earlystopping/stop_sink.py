# SPDX-License-Identifier: Apache-2.0
"""What Katib's SetTrialStatus is for: a foreign collector has stopped a trial; who is told?

tunesmith's own controller decides stops itself and needs none of this. For Katib's, `TrialPatcher`
writes the condition that Katib's own service would have written. Chosen by `server`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlsplit

from tunesmith_api.errors import Conflict, Invalid, NotFound, Unavailable
from tunesmith_proto.listening import is_loopback

if TYPE_CHECKING:
    import httpx

    from tunesmith_api.resources import Json

REASON: Final = "TrialEarlyStopped"
MESSAGE: Final = "Trial is early stopped"
TRIES: Final = 8
"""Of a write that another one overtakes."""
CALL_SECONDS: Final = 10.0


class StopSink(Protocol):
    """Is told that a trial was stopped early; repeats change nothing."""

    async def __call__(self, trial_name: str) -> None:
        """Returns when it is on record. Raises NotFound, Unavailable, and Invalid for what a repeat
        will not mend."""
        ...


class NotConfigured:
    """The sink of a service that was told of none."""

    async def __call__(self, trial_name: str) -> None:
        raise Invalid(
            f"trial {trial_name!r} was not marked as stopped: this service does not know where "
            "trials are kept. Start it with --api URL --token-file FILE --namespace NAMESPACE "
            "(tunesmith's own controller stops trials by itself and needs none of it)"
        )


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """A Kubernetes-shaped API. The token file is read before every call: tokens are rotated."""

    url: str
    namespace: str
    token_file: Path | None = None
    ca_file: Path | None = None

    def problem(self) -> str:
        """Why these cannot be used, "" when they can."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return f"--api {self.url!r} is neither http://HOST:PORT nor https://HOST:PORT"
        if not self.namespace:
            return "--api needs --namespace: where the trials are"
        if parts.scheme == "http" and self.token_file and not is_loopback(parts.hostname):
            return f"--api {self.url} would send the token in plain text: use https"
        return ""


class TrialPatcher:
    """Appends EarlyStopped to a Trial's conditions. An ended trial stays as it is."""

    def __init__(
        self,
        options: ApiOptions,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._options = options
        self._now = now
        self._transport = transport

    async def __call__(self, trial_name: str) -> None:
        path = (
            f"/apis/kubeflow.org/v1beta1/namespaces/{quote(self._options.namespace, safe='')}"
            f"/trials/{quote(trial_name, safe='')}"
        )
        async with self._client() as client:
            for _ in range(TRIES):
                trial = await self._answer(client, "GET", path)
                patch = stopped(trial, self._now())
                if patch is None:
                    return
                try:
                    await self._answer(client, "PATCH", f"{path}/status", patch)
                except Conflict:
                    continue
                return
        raise Unavailable(f"trial {trial_name!r} changed {TRIES} times while it was being marked")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        import ssl  # noqa: PLC0415

        import httpx  # noqa: PLC0415 - only services that were given an API need it

        options, headers = self._options, {}
        try:
            if options.token_file is not None:
                headers["Authorization"] = f"Bearer {options.token_file.read_text().strip()}"
            verify = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:
            raise Invalid(f"cannot read {error.filename}: {error.strerror}") from error
        async with httpx.AsyncClient(
            base_url=options.url,
            headers=headers,
            verify=verify,
            timeout=CALL_SECONDS,
            trust_env=False,
            transport=self._transport,
        ) as client:
            yield client

    async def _answer(
        self, client: httpx.AsyncClient, verb: str, path: str, patch: Json | None = None
    ) -> Json:
        import httpx  # noqa: PLC0415

        body = None if patch is None else json.dumps(patch)
        headers = {"Content-Type": "application/merge-patch+json"} if patch else {}
        try:
            response = await client.request(verb, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}"
            raise Unavailable(f"no answer from {self._options.url} ({reason})") from error
        return _object(response, f"{verb} {self._options.url}{path}")


def stopped(trial: Json, now: datetime) -> Json | None:
    """The merge patch of a Trial's status that says that it was stopped; None when it has ended."""
    from tunesmith_api.conditions import (  # noqa: PLC0415
        TrialState,
        advance_trial,
        trial_state,
    )
    from tunesmith_api.resources import Trial  # noqa: PLC0415

    conditions = Trial.parse(trial).status.conditions
    if trial_state(conditions).is_terminal:
        return None
    conditions = advance_trial(conditions, TrialState.EARLY_STOPPED, REASON, MESSAGE, now)
    version = trial["metadata"]["resourceVersion"]
    return {
        "metadata": {"resourceVersion": version},
        "status": {"conditions": [condition.json() for condition in conditions]},
    }


def _object(response: httpx.Response, call: str) -> Json:
    code = response.status_code
    said = f"{call} was answered {code}: {response.text[:200]}"
    if code == 404:
        raise NotFound(said)
    if code == 409:
        raise Conflict(said)
    if code == 429 or code >= 500:
        raise Unavailable(said)
    if code >= 300:
        raise Invalid(said)
    try:
        found: Any = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"{call} was answered with something that is no object: is it the API?")
    return found
