# SPDX-License-Identifier: Apache-2.0
"""What is on a cluster already: this installation, others, Katib.

Asked by `install` before it changes anything, by `uninstall` and `doctor` for what was chosen when
it was installed: that is in the arguments of its programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final

from tunesmith.errors import NotPossible
from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.databases import SERVERS
from tunesmith.installation.options import (
    CONTROLLER,
    IMAGE,
    OBSERVATION,
    Database,
    Installation,
    default_image,
)
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.webhook.configurations import MUTATING, VALIDATING

Json = dict[str, Any]
KATIB_WEBHOOKS: Final = "katib.kubeflow.org"
KATIB_CONTROLLER: Final = "katib-controller"
_KATIBS: Final = (KATIB_CONTROLLER, "katib-db-manager", "katib-ui")
_CONTROLLERS: Final = f"app.kubernetes.io/name={CONTROLLER}"
_URLS: Final = {
    "tunesmith-postgres:": Database.POSTGRES,
    "tunesmith-mysql:": Database.MYSQL,
    "sqlite:": Database.SQLITE,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody asks of `install`; None for what is to stay as it is, or the default."""

    image: str | None = None
    pull_policy: str | None = None
    only: str | None = None
    database: Database | None = None
    database_url: str | None = None
    database_image: str | None = None
    webhooks: bool | None = None
    katib_listener: bool | None = None
    cert_manager: bool | None = None

    def over(self, before: Installation) -> Installation:
        """An image of another name than ours stays until somebody names another one."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        given = {name: value for name, value in said.items() if value is not None}
        if not self.image and before.image.rpartition(":")[0] == IMAGE:
            given["image"] = default_image()
        found = replace(before, **given)
        replicas = 1 if found.database is Database.SQLITE else 2
        return replace(found, only=found.only or None, replicas=replicas)


async def installed(objects: ClusterObjects, namespace: str) -> Installation | None:
    """As its own objects say; None where none is in that namespace."""
    controller = await objects.get("Deployment", CONTROLLER, namespace)
    if controller is None:
        return None
    observation = await objects.get("Deployment", OBSERVATION, namespace) or {}
    container, args = _container(controller), _args(controller)
    url = _option(_args(observation), "--db")
    found = Installation(
        namespace=namespace,
        only=_only(controller),
        image=container.get("image", ""),
        pull_policy=container.get("imagePullPolicy", ""),
        database=_database(url),
        webhooks="--webhooks" in args,
        katib_listener="--katib-listen" in _args(observation),
        cert_manager=_option(args, "--certificates") != "own",
        replicas=int(controller["spec"].get("replicas", 1)),
    )
    if found.database is Database.EXTERNAL:
        found = replace(found, database_url=url)
    return replace(found, database_image=await _database_image(objects, found))


async def _database_image(objects: ClusterObjects, found: Installation) -> str:
    """A server's version is never changed unasked: its files may not fit another one."""
    server = SERVERS.get(found.database)
    there = await objects.get("StatefulSet", server.name, found.namespace) if server else None
    return str(_container(there).get("image", "")) if there else ""


def _database(url: str) -> Database:
    return next((kind for part, kind in _URLS.items() if part in url), Database.EXTERNAL)


def _only(controller: Json) -> str | None:
    said = _option(_args(controller), "--only")
    home = str(controller["metadata"]["namespace"])
    return (home if said == "$(NAMESPACE)" else said) or None


def _container(workload: Json) -> Json:
    pod = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
    return next(iter(pod.get("containers") or [{}]), {})


def _args(workload: Json) -> list[str]:
    return list(_container(workload).get("args") or [])


def _option(args: Sequence[str], name: str) -> str:
    """Its value; empty without one."""
    return next((value for each, value in pairwise(args) if each == name), "")


# ---- others -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Katib:
    """What of it runs: Deployments by (namespace, name), the controller first, and kinds of webhook
    configurations."""

    deployments: tuple[tuple[str, str], ...] = ()
    webhooks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.deployments or self.webhooks)

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(namespace for namespace, _ in self.deployments))

    def __str__(self) -> str:
        found = [f"Deployment {namespace}/{name}" for namespace, name in self.deployments]
        return ", ".join([*found, *(f"{kind} {KATIB_WEBHOOKS}" for kind in self.webhooks)])


async def katib_on(objects: ClusterObjects, namespace: str) -> Katib:
    """Of the whole cluster; of one namespace for who may not look into others."""
    names = [
        (each["metadata"]["namespace"], each["metadata"]["name"])
        for each in await everywhere(objects, "Deployment", namespace)
        if each["metadata"]["name"] in _KATIBS and each["spec"].get("replicas", 1)
    ]
    webhooks = []
    for kind in (MUTATING, VALIDATING):
        try:
            if await objects.get(kind, KATIB_WEBHOOKS):
                webhooks.append(kind)
        except Denied:
            continue  # who may not look there installs in one namespace
    return Katib(tuple(sorted(names, key=lambda each: _KATIBS.index(each[1]))), tuple(webhooks))


async def controllers_of_katib(objects: ClusterObjects, namespace: str) -> list[Json]:
    """The Deployments, those with 0 replicas too: their pods may still be ending."""
    found = await everywhere(objects, "Deployment", namespace)
    return [each for each in found if each["metadata"]["name"] == KATIB_CONTROLLER]


async def others_on(objects: ClusterObjects, wanted: Installation) -> list[str]:
    """Installations in other namespaces, which look after `wanted`'s experiments too."""
    found = await everywhere(objects, "Deployment", wanted.namespace, labels=_CONTROLLERS)
    return [
        f"namespace {each['metadata']['namespace']}"
        + (f", for namespace {_only(each)}" if _only(each) else ", for all namespaces")
        for each in found
        if each["metadata"]["namespace"] != wanted.namespace
        and (wanted.only is None or _only(each) in (None, wanted.only))
    ]


async def refuse_beside_katib(objects: ClusterObjects, wanted: Installation) -> None:
    """Two controllers of the same objects would undo each other's work. Raises NotPossible."""
    katib = await katib_on(objects, wanted.namespace)
    if katib:
        raise NotPossible(
            f"Katib runs on this cluster ({katib}), and two controllers of the same objects would"
            " undo each other's work",
            hint=f"{await taking_over_by(objects, katib, wanted)}"
            "  # stops Katib and goes on with its experiments",
        )


async def taking_over_by(objects: ClusterObjects, katib: Katib, wanted: Installation) -> str:
    """The command: in Katib's namespace, unless ours is installed elsewhere already."""
    place = wanted.namespace
    if katib.namespaces and place not in katib.namespaces and not await installed(objects, place):
        place = katib.namespaces[0]
    within = "" if place == Installation().namespace else f" -n {place}"
    return f"tunesmith install{within} --take-over"


async def refuse_beside_installations(objects: ClusterObjects, wanted: Installation) -> None:
    """As beside Katib. Raises NotPossible."""
    others = await others_on(objects, wanted)
    if others:
        where = others[0].split(",")[0].removeprefix("namespace ")
        raise NotPossible(
            f"tunesmith is installed in {'; '.join(others)}, and would look after the same"
            " experiments",
            hint=f"tunesmith install -n {where}  # brings that one up to date",
        )


async def everywhere(
    objects: ClusterObjects, kind: str, namespace: str, *, labels: str = ""
) -> list[Json]:
    """Of all namespaces; of one for who may not look into others."""
    try:
        return await objects.list(kind, labels=labels)
    except Denied:
        return await objects.list(kind, namespace, labels=labels)
