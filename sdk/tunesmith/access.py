# SPDX-License-Identifier: Apache-2.0
"""How the SDK reaches objects, output and control: a state directory, or an API at a URL.

`open_access` is the one place that decides which, and whether the objects of a state directory are
read through its API. Called by `client`; `following` and the verbs work on the `Access` they get.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from tunesmith.follower import Notice
from tunesmith.log_tail import follow_lines
from tunesmith.served_store import ServedStore
from tunesmith_api.errors import NotFound
from tunesmith_api.resources import Trial
from tunesmith_controller.apiserver.address import find_api
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.ports import ObjectStore

if TYPE_CHECKING:
    from tunesmith_controller.stores.rest_transport import ApiTransport, HttpTransport


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client's experiments are: behind `url` where one is given, else in `home`."""

    home: Path
    settings: LocalSettings
    url: str = ""
    token: str = ""

    def __str__(self) -> str:
        return f"the API {self.url}" if self.url else f"the state directory {self.home}"

    @property
    def remedy(self) -> str:
        """What may help when it cannot be used."""
        if self.url:
            return "check that it runs (`tunesmith serve`), its URL and its token"
        return "check its disk and permissions, or set TUNESMITH_HOME to another directory"


class Access(Protocol):
    """Objects of one place, and what else can be reached there."""

    @property
    def store(self) -> ObjectStore: ...

    @property
    def controller(self) -> str:
        """Who works on the experiments now, for people; "" when nobody does."""
        ...

    def output_path(self, trial: Trial) -> Path | None:
        """What the trial's newest attempt printed; there once it has started. None where there is
        no file to follow."""
        ...

    async def output(self, trial: Trial) -> Iterable[str]:
        """The lines that the newest attempt has printed. Raises Unavailable."""
        ...

    async def control(self, notice: Notice) -> None:
        """Waits until nobody else controls, then does until cancelled. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """A state directory of this machine."""

    store: ObjectStore
    plane: LocalPlane

    @property
    def controller(self) -> str:
        holder = self.plane.lease.holder()
        return "" if holder is None else f"process {holder}"

    def output_path(self, trial: Trial) -> Path:
        return self.plane.output_path(trial.metadata.uid, attempt_of(trial))

    async def output(self, trial: Trial) -> Iterable[str]:
        return follow_lines(self.output_path(trial), None)

    async def control(self, notice: Notice) -> None:
        await self.plane.control(notice=notice)


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """An API at a URL; who serves it controls."""

    store: ObjectStore
    transport: ApiTransport
    url: str

    @property
    def controller(self) -> str:
        return f"the server at {self.url}"

    def output_path(self, trial: Trial) -> None:
        return None

    async def output(self, trial: Trial) -> Iterable[str]:
        from tunesmith_controller.stores import rest_errors, rest_transport  # noqa: PLC0415

        namespace, name = trial.metadata.namespace, f"{trial.metadata.name}-{attempt_of(trial)}"
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}/log"
        reply = await self.transport.request(rest_transport.ApiRequest("GET", path))
        try:
            rest_errors.raise_for(reply, f"read the log of {name}")
        except NotFound:  # it has not started yet
            return ()
        return reply.body.decode("utf-8", "replace").splitlines()

    async def control(self, notice: Notice) -> None:
        await asyncio.Event().wait()


def attempt_of(trial: Trial) -> int:
    return max(trial.status.run.attempt, 1) if trial.status.run else 1


@asynccontextmanager
async def open_access(place: Place) -> AsyncIterator[Access]:
    """Raises Unavailable, OSError."""
    if place.url:
        async with _transport(place.url, place.token) as transport:
            yield RemoteAccess(_rest(transport), transport, place.url)
        return
    async with LocalPlane.open(place.home, place.settings) as plane:
        api = find_api(place.home)
        if api is None:
            yield LocalAccess(plane.store, plane)
            return
        async with _transport(api.url, api.token) as transport:
            store = ServedStore(_rest(transport), plane.store)
            yield LocalAccess(store, plane)


@asynccontextmanager
async def _transport(url: str, token: str) -> AsyncIterator[HttpTransport]:
    # Loaded here: most commands find no API, and the HTTP stack takes as long as they do.
    from tunesmith_controller.stores.rest_transport import HttpTransport  # noqa: PLC0415

    transport = HttpTransport(url, token)
    try:
        yield transport
    finally:
        await transport.aclose()


def _rest(transport: ApiTransport) -> ObjectStore:
    from tunesmith_controller.stores.rest import RestStore  # noqa: PLC0415

    return RestStore(transport)
