# SPDX-License-Identifier: Apache-2.0
"""One controller a cluster, by a Lease of coordination.k8s.io.

A candidate never compares its clock with another machine's: it watches the record, and takes the
lease when the record has not changed for as long as the record itself says it holds, measured on
its own monotonic clock. A leader stops leading before another may begin: it gives up when it could
not renew for `renew_s`, which is shorter than `duration_s`. Writes carry the resourceVersion that
was read, so of two candidates one wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    Json,
    Key,
    NotFound,
    ObjectStore,
    PortError,
)

_log = logging.getLogger(__name__)

API_VERSION: Final = "coordination.k8s.io/v1"
KIND: Final = "Lease"


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Seconds. `duration_s`: how long others respect a leader that is not heard of. `renew_s`: how
    long a leader goes on without having renewed. `retry_s`: between tries of either."""

    duration_s: int = 15
    renew_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.renew_s < self.duration_s:
            raise ValueError("an election needs 0 < retry_s < renew_s < duration_s")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record of another holder, and when it was first seen like this."""

    version: str
    since: float


class LeaseElection:
    """A candidate named `identity` for one Lease: `acquire`, lead until `lost`, `release`."""

    def __init__(
        self,
        store: ObjectStore,
        key: Key,
        identity: str,
        settings: ElectionSettings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`now` is only written down, for people. `store` serves Leases."""
        self.lost = asyncio.Event()
        self._store = store
        self._key = key
        self._identity = identity
        self._settings = settings or ElectionSettings()
        self._now = now
        self._seen: _Seen | None = None
        self._held: Json | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this candidate may act now."""
        return self._renewing is not None and not self.lost.is_set()

    async def acquire(self) -> None:
        """Waits until this candidate leads; from then on the lease is renewed beside."""
        while True:
            began = self._time()
            try:
                if await self._take():
                    self.lost.clear()
                    self._renewing = asyncio.ensure_future(self._renew(began))
                    return
            except PortError as error:
                _log.info("the lease %s cannot be read or written: %s", self._key, error)
            await asyncio.sleep(self._settings.retry_s)

    async def release(self) -> None:
        """Stops leading; another candidate may begin at once."""
        task, self._renewing = self._renewing, None
        if task is None:
            return
        led = not self.lost.is_set()
        task.cancel()  # which sets `lost`
        await asyncio.gather(task, return_exceptions=True)
        if not led:
            return
        try:
            lease = await self._store.get(self._key)
            if _spec(lease).get("holderIdentity") == self._identity:
                await self._write(lease, {**_spec(lease), "holderIdentity": ""})
        except PortError as error:
            _log.info("the lease %s was not given back: %s", self._key, error)

    async def _renew(self, since: float) -> None:
        """`since` is when the last renewal that worked was begun."""
        settings = self._settings
        try:
            while self._time() - since < settings.renew_s:
                await asyncio.sleep(settings.retry_s)
                began = self._time()
                left = settings.renew_s - (began - since)
                try:
                    async with asyncio.timeout(max(left, 0.0)):
                        if await self._renewed() or await self._take():
                            since = began
                        elif self._seen is not None:
                            break  # somebody else holds it
                except (PortError, TimeoutError) as error:
                    _log.info("the lease %s was not renewed: %s", self._key, error)
        finally:
            self.lost.set()
        _log.warning("%s leads no longer", self._identity)

    async def _renewed(self) -> bool:
        """Writes upon the lease as this candidate wrote it last, without reading it; False when
        anybody has changed it since."""
        if (held := self._held) is None:
            return False
        self._held = None
        try:
            await self._write(held, self._claimed(_spec(held), renews=True))
        except (Conflict, NotFound):
            return False
        return True

    async def _take(self) -> bool:
        """Creates, renews or takes over the lease; False while it is another's."""
        try:
            lease = await self._store.get(self._key)
        except NotFound:
            return await self._created()
        spec = _spec(lease)
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._has_run_out(lease):
            return False
        self._seen = None
        try:
            await self._write(lease, self._claimed(spec, renews=holder == self._identity))
        except Conflict:
            return False  # another candidate was quicker
        return True

    async def _created(self) -> bool:
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": self._key.name, "namespace": self._key.namespace},
            "spec": self._claimed({}, renews=False),
        }
        try:
            self._held = await self._store.create(body)
        except AlreadyExists:
            return False
        return True

    def _has_run_out(self, lease: Json) -> bool:
        """Whether its holder was silent, before our eyes, for as long as it asked for."""
        version = str(lease["metadata"].get("resourceVersion", ""))
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._time())
        asked = _spec(lease).get("leaseDurationSeconds")
        duration = asked if isinstance(asked, int) and asked > 0 else self._settings.duration_s
        return self._time() - self._seen.since > duration

    def _claimed(self, spec: Json, *, renews: bool) -> Json:
        now = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = spec.get("leaseTransitions")
        changes = before if isinstance(before, int) else 0
        claim = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._settings.duration_s,
            "renewTime": now,
        }
        if renews:
            return {**spec, **claim}
        return {**spec, **claim, "acquireTime": now, "leaseTransitions": changes + 1}

    async def _write(self, lease: Json, spec: Json) -> None:
        self._held = await self._store.update({**lease, "spec": spec})

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _spec(lease: Json) -> Json:
    found = lease.get("spec")
    return found if isinstance(found, dict) else {}
