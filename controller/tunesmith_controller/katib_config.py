# SPDX-License-Identifier: Apache-2.0
"""Katib's configuration, the ConfigMap `katib-config`, read as it is.

`ClusterAlgorithmHost` asks it for services of other people, admission for their names, the program
of a cluster's controller for what it starts with. Entries are read when they are asked for, so that
a broken one hinders only those who need it; every error names the entry.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tunesmith_controller.ports import Invalid, Json, Key, NotFound, ObjectStore, Unavailable

CONFIG_MAP: Final = "katib-config"
DATA_KEY: Final = "katib-config.yaml"
API_VERSION: Final = "config.kubeflow.org/v1beta1"
KIND: Final = "KatibConfig"

SUGGESTION_PORT: Final = 6789
SUGGESTION_PORT_NAME: Final = "suggestion-api"
DEFAULT_MOUNT_PATH: Final = "/opt/katib/data"
_DEFAULT_CLAIM: Final[Mapping[str, Any]] = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
}
_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "50m", "memory": "10Mi", "ephemeral-storage": "500Mi"},
    "limits": {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "5Gi"},
}
_PULL_POLICIES: Final = ("IfNotPresent", "Always", "Never")
_OF_SUGGESTIONS: Final = frozenset(
    {
        "algorithmName",
        "serviceAccountName",
        "volumeMountPath",
        "persistentVolumeClaimSpec",
        "persistentVolumeSpec",
        "persistentVolumeLabels",
    }
)
"""All else in an entry of runtime.suggestions is a core/v1 Container."""


_KATIBS_IMAGE: Final = re.compile(r"(^|/)(kubeflowkatib|kubeflow/katib)/suggestion-")


@dataclass(frozen=True, slots=True)
class SuggestionEntry:
    """How the service of an algorithm runs. `container` is a core/v1 Container with Katib's
    defaults for name, imagePullPolicy and resources."""

    algorithm: str
    container: Json
    service_account: str = ""
    mount_path: str = DEFAULT_MOUNT_PATH
    claim: Json = field(default_factory=dict)
    volume: Json | None = None
    volume_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An early stopping rule or a metrics collector; `name` is the algorithm or the kind."""

    name: str
    image: str
    image_pull_policy: str
    resources: Json
    wait_all_processes: bool | None = None


def is_katibs_own(entry: SuggestionEntry) -> bool:
    """Whether its image is one that Katib's project publishes."""
    return _KATIBS_IMAGE.search(str(entry.container.get("image", ""))) is not None


@dataclass(frozen=True, slots=True)
class TrialResource:
    """A kind of trial job, in Katib's form Kind.version.group."""

    kind: str
    version: str
    group: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class ControllerStart:
    """init.controller and init.certGenerator: what a controller starts with."""

    metrics_address: str = ":8080"
    health_address: str = ":18080"
    webhook_port: int = 8443
    inject_security_context: bool = False
    grpc_probes: bool = True
    trial_resources: tuple[TrialResource, ...] = (TrialResource("Job", "v1", "batch"),)
    leader_election: bool = False
    makes_certificates: bool = False
    webhook_service: str = "katib-controller"
    webhook_secret: str = "katib-webhook-cert"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class KatibConfig:
    """The two halves as they were written; the methods raise Invalid, naming the entry."""

    init: Json = field(default_factory=dict)
    runtime: Json = field(default_factory=dict)

    def start(self) -> ControllerStart:
        return _start(_mapping(self.init, "controller", "init"), _certificates(self.init))

    def algorithms(self) -> frozenset[str]:
        """Names with an image, whether or not the rest of the entry is right."""
        return self._named("suggestions", "algorithmName")

    def stopping_rules(self) -> frozenset[str]:
        return self._named("earlyStoppings", "algorithmName")

    def suggestion(self, algorithm: str) -> SuggestionEntry | None:
        """None where there is no entry; the last one where there are several."""
        where, entry = self._entry("suggestions", "algorithmName", algorithm)
        return None if entry is None else _suggestion(where, entry)

    def stopping_rule(self, algorithm: str) -> ImageEntry | None:
        where, entry = self._entry("earlyStoppings", "algorithmName", algorithm)
        return None if entry is None else _image_entry(where, entry, algorithm)

    def collector(self, kind: str) -> ImageEntry | None:
        where, entry = self._entry("metricsCollectors", "kind", kind)
        return None if entry is None else _image_entry(where, entry, kind)

    def _named(self, part: str, name: str) -> frozenset[str]:
        entries = _entries(self.runtime, part)
        return frozenset(
            str(entry[name]).strip()
            for entry in entries
            if isinstance(entry, dict) and entry.get(name) and str(entry.get("image") or "").strip()
        )

    def _entry(self, part: str, name: str, wanted: str) -> tuple[str, Json | None]:
        found: tuple[str, Json | None] = ("", None)
        for index, entry in enumerate(_entries(self.runtime, part)):
            if isinstance(entry, dict) and str(entry.get(name) or "").strip() == wanted:
                found = (f"runtime.{part}[{index}] ({wanted})", entry)
        return found


def parse(text: str) -> KatibConfig:
    """Raises Invalid. What is empty is all defaults."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong("", f"is no YAML: {error}") from None
    if found is None:
        return KatibConfig()
    if not isinstance(found, dict):
        raise _wrong("", "is no mapping")
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if found.get(name, wanted) != wanted:
            raise _wrong(name, f"is {found[name]!r}, not {wanted!r}")
    return KatibConfig(_mapping(found, "init", ""), _mapping(found, "runtime", ""))


class ConfigSource:
    """The configuration of an installation, read again at every use, but for `fresh_s` seconds.

    While the API does not answer, what was read last stays in force.
    """

    def __init__(self, store: ObjectStore, namespace: str, *, fresh_s: float = 5.0) -> None:
        self._store = store
        self._key = Key("ConfigMap", namespace, CONFIG_MAP)
        self._fresh_s = fresh_s
        self._read_at = float("-inf")
        self._text: str | None = None
        self._parsed: KatibConfig | None = None
        self._reading = asyncio.Lock()

    async def current(self) -> KatibConfig:
        """All defaults where there is no ConfigMap. Raises Invalid, and Unavailable as long as it
        was never read."""
        async with self._reading:
            loop = asyncio.get_running_loop()
            if loop.time() - self._read_at >= self._fresh_s:
                await self._read()
                self._read_at = loop.time()
            if self._parsed is None:
                self._parsed = parse(self._text or "")
            return self._parsed

    async def _read(self) -> None:
        try:
            found = await self._store.get(self._key)
        except NotFound:
            text = ""
        except Unavailable:
            if self._text is None:
                raise
            return
        else:
            text = str((found.get("data") or {}).get(DATA_KEY) or "")
        if text != self._text:
            self._text, self._parsed = text, None


# ---- entries ------------------------------------------------------------------------------------


def _suggestion(where: str, entry: Json) -> SuggestionEntry:
    container = {name: value for name, value in entry.items() if name not in _OF_SUGGESTIONS}
    container["image"] = _image(where, entry)
    container["name"] = entry.get("name") or "suggestion"
    container["imagePullPolicy"] = _pull_policy(entry)
    container["resources"] = _with_defaults(where, entry)
    _check_ports(where, container.get("ports") or [])
    volume = entry.get("persistentVolumeSpec")
    return SuggestionEntry(
        algorithm=str(entry["algorithmName"]).strip(),
        container=container,
        service_account=str(entry.get("serviceAccountName") or ""),
        mount_path=str(entry.get("volumeMountPath") or DEFAULT_MOUNT_PATH),
        claim=_claim(_mapping(entry, "persistentVolumeClaimSpec", where)),
        volume=None if volume is None else _mapping(entry, "persistentVolumeSpec", where),
        volume_labels={
            str(name): str(value)
            for name, value in _mapping(entry, "persistentVolumeLabels", where).items()
        },
    )


def _check_ports(where: str, ports: Any) -> None:
    if not isinstance(ports, list):
        raise _wrong(f"{where}.ports", "is no list")
    for port in ports:
        taken = isinstance(port, dict) and (
            port.get("name") == SUGGESTION_PORT_NAME or port.get("containerPort") == SUGGESTION_PORT
        )
        if taken:
            raise _wrong(
                f"{where}.ports",
                f"has the port {SUGGESTION_PORT} or the name {SUGGESTION_PORT_NAME!r}, which are "
                "added anyway: remove it",
            )


def _claim(given: Json) -> Json:
    claim = {**_DEFAULT_CLAIM, **given}
    if not (claim.get("resources") or {}).get("requests"):
        claim["resources"] = {**(claim.get("resources") or {}), **_DEFAULT_CLAIM["resources"]}
    return claim


def _image_entry(where: str, entry: Json, name: str) -> ImageEntry:
    waits = entry.get("waitAllProcesses")
    if waits is not None and not isinstance(waits, bool):
        raise _wrong(f"{where}.waitAllProcesses", f"is {waits!r}, not true or false")
    resources = _with_defaults(where, entry)
    return ImageEntry(name, _image(where, entry), _pull_policy(entry), resources, waits)


def _image(where: str, entry: Json) -> str:
    image = entry.get("image")
    if not isinstance(image, str) or not image.strip():
        raise _wrong(f"{where}.image", "is missing: name the image of the service")
    return image.strip()


def _pull_policy(entry: Json) -> str:
    """Katib takes anything else for IfNotPresent."""
    given = entry.get("imagePullPolicy")
    return given if given in _PULL_POLICIES else _PULL_POLICIES[0]


def _with_defaults(where: str, entry: Json) -> Json:
    """Katib's default of every quantity that is not given; a negative one means none at all."""
    given = _mapping(entry, "resources", where)
    resources = {name: value for name, value in given.items() if name not in _RESOURCES}
    for part, defaults in _RESOURCES.items():
        quantities = {**defaults, **_mapping(given, part, f"{where}.resources")}
        kept = {name: q for name, q in quantities.items() if not str(q).startswith("-")}
        if kept:
            resources[part] = kept
    return resources


# ---- init ---------------------------------------------------------------------------------------


def _certificates(init: Json) -> Json:
    return _mapping(init, "certGenerator", "init")


def _start(controller: Json, certificates: Json) -> ControllerStart:
    default = ControllerStart()
    kinds = controller.get("trialResources")
    makes = _flag(certificates, "enable", "init.certGenerator", default=False)
    named = certificates.get("webhookServiceName") or certificates.get("webhookSecretName")
    place = "init.controller"
    return ControllerStart(
        metrics_address=str(controller.get("metricsAddr") or default.metrics_address),
        health_address=str(controller.get("healthzAddr") or default.health_address),
        webhook_port=_number(controller, "webhookPort", place, default.webhook_port),
        inject_security_context=_flag(controller, "injectSecurityContext", place, default=False),
        grpc_probes=_flag(controller, "enableGRPCProbeInSuggestion", place, default=True),
        trial_resources=_trial_resources(kinds) if kinds else default.trial_resources,
        leader_election=_flag(controller, "enableLeaderElection", place, default=False),
        makes_certificates=makes or bool(named),
        webhook_service=str(certificates.get("webhookServiceName") or default.webhook_service),
        webhook_secret=str(certificates.get("webhookSecretName") or default.webhook_secret),
    )


def _trial_resources(given: Any) -> tuple[TrialResource, ...]:
    where = "init.controller.trialResources"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise _wrong(where, "is no list of Kind.version.group")
    found = []
    for index, text in enumerate(given):
        kind, _, rest = str(text).partition(".")
        version, _, group = rest.partition(".")
        if not (kind and version):
            raise _wrong(f"{where}[{index}]", f"is {text!r}, not of the form Kind.version.group")
        found.append(TrialResource(kind, version, group))
    return tuple(found)


# ---- values -------------------------------------------------------------------------------------


def _entries(runtime: Json, part: str) -> list[Any]:
    entries = runtime.get(part) or []
    if not isinstance(entries, list):
        raise _wrong(f"runtime.{part}", "is no list")
    return entries


def _mapping(parent: Json, name: str, where: str) -> Json:
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(f"{where}.{name}" if where else name, "is no mapping")
    return found


def _flag(parent: Json, name: str, where: str, *, default: bool) -> bool:
    found = parent.get(name)
    if found is None:
        return default
    if not isinstance(found, bool):
        raise _wrong(f"{where}.{name}", f"is {found!r}, not true or false")
    return found


def _number(parent: Json, name: str, where: str, default: int) -> int:
    found = parent.get(name)
    if found is None:
        return default
    if not isinstance(found, int) or isinstance(found, bool):
        raise _wrong(f"{where}.{name}", f"is {found!r}, no whole number")
    return found


def _wrong(where: str, what: str) -> Invalid:
    place = f": {where}" if where else ""
    return Invalid(f"ConfigMap {CONFIG_MAP}, {DATA_KEY}{place} {what}")
