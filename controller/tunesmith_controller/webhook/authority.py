# SPDX-License-Identifier: Apache-2.0
"""`CertificateKeeper`: our authorities and the certificates of our services, kept in the cluster.

Every replica of the controller runs one; they agree by the versions of the objects that they write.
It keeps the authorities in a Secret of the installation's namespace, tells the webhook
configurations and a ConfigMap in every namespace with trials whom to trust, and renews a Secret
with a serving certificate for each of our services. `FileCertificates` does the part that is left
where cert-manager makes the certificates.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunesmith_controller.ports import (
    AlreadyExists,
    Clock,
    Conflict,
    Invalid,
    Json,
    Key,
    NotFound,
    PortError,
    Unavailable,
)
from tunesmith_controller.stores.rest import RESOURCES, Resource, RestStore
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.webhook import certificates
from tunesmith_controller.webhook.certificates import Authority, Change, Pair, Policy
from tunesmith_controller.webhook.configurations import MUTATING, NAME, VALIDATING, with_bundle
from tunesmith_controller.webhook.copies import AuthorityCopies
from tunesmith_controller.webhook.live_certificate import LiveCertificate

_log = logging.getLogger(__name__)

SECRET: Final = "tunesmith-ca"  # noqa: S105 - a name
_STATE: Final = "authorities.json"
_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_TRIES: Final = 5
_RETRY_S: Final = 2.0
_RESOURCES: Final[Mapping[str, Resource]] = {
    "Secret": Resource("v1", "secrets", status=False),
    "ConfigMap": RESOURCES["ConfigMap"],
    MUTATING: Resource(_ADMISSION, "mutatingwebhookconfigurations", namespaced=False, status=False),
    VALIDATING: Resource(
        _ADMISSION, "validatingwebhookconfigurations", namespaced=False, status=False
    ),
}


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """What clients in a cluster call a Service."""
    return (
        f"{service}.{namespace}.svc",
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc.cluster.local",
    )


def secret_of(service: str) -> str:
    """The name of the Secret with a service's tls.crt, tls.key and ca.crt, for it to mount."""
    return f"{service}-tls"


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """services: names that each certificate is for, by service. own: the service that this
    process is. namespaces: where trials may be, None for all. webhooks: whether they are installed,
    and to be told whom to trust. every_s: between two rounds."""

    namespace: str = "kubeflow"
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    own: str = "tunesmith-controller"
    namespaces: tuple[str, ...] | None = None
    webhooks: bool = True
    every_s: float = 60.0

    def names(self) -> Mapping[str, Sequence[str]]:
        ours = ("tunesmith-controller", "tunesmith-observation", "tunesmith-suggestion")
        return {name: service_names(name, self.namespace) for name in ours} | dict(self.services)


class CertificateKeeper:
    """`live` serves the own certificate, `copies` are the trusted authorities in namespaces; `kept`
    is set once both were in order."""

    def __init__(
        self,
        transport: ApiTransport,
        clock: Clock,
        settings: CertificateSettings | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._settings = settings or CertificateSettings()
        self._policy = policy or Policy()
        self._clock = clock
        self._store = RestStore(transport, resources=_RESOURCES)
        self.kept = asyncio.Event()
        self.live = LiveCertificate()
        self.copies = AuthorityCopies(
            self._store, self._settings.namespace, self._settings.namespaces
        )

    async def run(self) -> None:
        """Rounds until cancelled; one that fails is repeated soon."""
        while True:
            wait = self._settings.every_s
            try:
                await self.step()
            except PortError as error:
                _log.warning("certificates could not be looked after: %s", error)
                wait = min(_RETRY_S, wait)
            await asyncio.sleep(wait)

    async def step(self) -> None:
        """One round. Raises PortErrors, after which it is simply repeated: each part stands for
        itself, and nothing is served that is not trusted yet."""
        authorities = await self._changed(self._next)
        await self._publish(certificates.bundle(authorities))
        if any(each.published is None for each in authorities):
            authorities = await self._changed(self._published_from(authorities))
        by = certificates.signer(authorities, self._clock.now(), self._policy)
        trusted = certificates.bundle(authorities)
        for service, names in self._settings.names().items():
            pair = await self._serving(service, names, by, trusted)
            if service == self._settings.own and self.live.load(pair):
                _log.info("the certificate of %s is good until %s", service, self.live.not_after)
        self.kept.set()

    # ---- authorities ----------------------------------------------------------------------------

    def _next(self, current: Sequence[Authority]) -> tuple[Authority, ...]:
        return certificates.next_authorities(current, self._clock.now(), self._policy)

    def _published_from(self, told: Sequence[Authority]) -> Change:
        """Those that were just told; another controller may have added one meanwhile."""
        pairs = {each.pair for each in told}

        def change(current: Sequence[Authority]) -> tuple[Authority, ...]:
            now = self._clock.now()
            return tuple(
                certificates.published([each], now)[0] if each.pair in pairs else each
                for each in current
            )

        return change

    async def _changed(self, change: Change) -> tuple[Authority, ...]:
        """The authorities after a change, which is made on what is there now."""
        key = Key("Secret", self._settings.namespace, SECRET)
        for _ in range(_TRIES):
            secret = await self._get(key)
            before = _authorities(secret)
            after = change(before)
            if after == before:
                return after
            data = {_STATE: certificates.to_json(after).encode()}
            if await self._write(key, secret, data, "Opaque"):
                return after
        raise Conflict(f"{key} is changed by others all the time")

    async def _publish(self, trusted: bytes) -> None:
        """Everybody trusts all authorities before any new one signs."""
        for kind in (MUTATING, VALIDATING) if self._settings.webhooks else ():
            await self._trust(Key(kind, "", NAME), trusted)
        await self.copies.publish(trusted.decode())

    async def _trust(self, key: Key, trusted: bytes) -> None:
        for _ in range(_TRIES):
            found = await self._get(key)
            if found is None:
                return  # not installed: nobody is to be told
            wanted = with_bundle(found, trusted)
            if wanted == found:
                return
            try:
                await self._store.update(wanted)
                return
            except Conflict:
                continue
        raise Conflict(f"{key} is changed by others all the time")

    # ---- serving --------------------------------------------------------------------------------

    async def _serving(
        self, service: str, names: Sequence[str], by: Authority, trusted: bytes
    ) -> Pair:
        key = Key("Secret", self._settings.namespace, secret_of(service))
        now = self._clock.now()
        for _ in range(_TRIES):
            secret = await self._get(key)
            pair = _pair(secret)
            if pair is None or certificates.must_be_renewed(pair, by, names, now, self._policy):
                pair = certificates.issue(by, names, now, self._policy)
            data = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": trusted}
            if _data(secret) == data or await self._write(key, secret, data, "kubernetes.io/tls"):
                return pair
        raise Conflict(f"{key} is changed by others all the time")

    # ---- objects --------------------------------------------------------------------------------

    async def _get(self, key: Key) -> Json | None:
        try:
            return await self._store.get(key)
        except NotFound:
            return None

    async def _write(
        self, key: Key, before: Json | None, data: Mapping[str, bytes], type_: str
    ) -> bool:
        """Whether nobody was quicker."""
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        try:
            if before is not None:
                await self._store.update({**before, "data": encoded})
                return True
            labels = {"app.kubernetes.io/part-of": "tunesmith"}
            metadata = {"name": key.name, "namespace": key.namespace, "labels": labels}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
            await self._store.create({**secret, "type": type_, "data": encoded})
        except (AlreadyExists, Conflict):
            return False
        return True


class FileCertificates:
    """The certificates that cert-manager mounts: `folder` has tls.crt, tls.key and ca.crt. The
    webhook configurations are its injector's business."""

    def __init__(
        self,
        transport: ApiTransport,
        folder: Path,
        settings: CertificateSettings | None = None,
    ) -> None:
        self._settings = settings or CertificateSettings()
        self._folder = folder
        self.kept = asyncio.Event()
        self.live = LiveCertificate()
        self.copies = AuthorityCopies(
            RestStore(transport, resources=_RESOURCES),
            self._settings.namespace,
            self._settings.namespaces,
        )

    async def run(self) -> None:
        """Looks at the files until cancelled."""
        while True:
            try:
                await self.step()
            except PortError as error:
                _log.warning("certificates could not be looked after: %s", error)
            await asyncio.sleep(min(self._settings.every_s, 10.0))

    async def step(self) -> None:
        """Raises Unavailable when a file cannot be read."""
        try:
            pair = Pair(self._read("tls.crt"), self._read("tls.key"))
            trusted = self._read("ca.crt").decode()
        except OSError as error:
            raise Unavailable(f"no certificate in {self._folder}: {error}") from error
        self.live.load(pair)
        await self.copies.publish(trusted)
        self.kept.set()

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


def _authorities(secret: Json | None) -> tuple[Authority, ...]:
    text = _data(secret).get(_STATE, b"[]")
    try:
        return certificates.from_json(text.decode())
    except Invalid as error:
        # Somebody has written into it. New ones take over, as after an expiry.
        _log.error("Secret %s: %s; new ones are made", SECRET, error)
        return ()


def _pair(secret: Json | None) -> Pair | None:
    data = _data(secret)
    pair = Pair(data.get("tls.crt", b""), data.get("tls.key", b""))
    try:
        _ = pair.parsed
    except ValueError:
        return None
    return pair


def _data(secret: Json | None) -> dict[str, bytes]:
    data = (secret or {}).get("data") or {}
    return {name: base64.b64decode(text) for name, text in data.items()}
