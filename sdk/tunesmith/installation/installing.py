# SPDX-License-Identifier: Apache-2.0
"""Puts an installation on a cluster. Called by `tunesmith install`.

Doing it again changes what has changed, and nothing else: passwords, certificates, rows and the
configuration that people have written stay. What a changed choice leaves over goes.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tunesmith.errors import NotPossible, StateUnusable
from tunesmith.installation.cluster_objects import Applied, ClusterObjects
from tunesmith.installation.existing import refuse_beside_installations, refuse_beside_katib
from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import (
    DATABASE_SECRET,
    INSTANCE,
    PART_OF,
    Database,
    Installation,
)
from tunesmith.installation.removing import remove_all_but
from tunesmith_controller import katib_config
from tunesmith_controller.ports import AlreadyExists

Json = dict[str, Any]
Tell = Callable[[str], None]

_SERVED_S: Final = 30.0
_LOOK_S: Final = 0.2
_DEFINITION: Final = "CustomResourceDefinition"
_CERT_MANAGER: Final = "/apis/cert-manager.io/v1"


async def install(
    objects: ClusterObjects, installation: Installation, password: str = "", tell: Tell = print
) -> Counter[Applied]:
    """Applies everything, in order, and tells of each change; how much of what came of it. Raises
    NotPossible where it must not be, StateUnusable, and PortErrors."""
    await refuse_beside_katib(objects, installation)
    await check_possible(objects, installation, password)
    wanted, counts = manifests(installation), Counter[Applied]()
    for obj in wanted:
        done = await _put(objects, obj)
        counts[done] += 1
        if done is not Applied.UNCHANGED:
            tell(f"{done:<8} {obj['kind']} {obj['metadata']['name']}")
        if obj["kind"] == "Namespace" and installation.database is not Database.SQLITE:
            await _keep_password(objects, installation, password, tell)
    for told in await remove_all_but(objects, installation, wanted):
        tell(f"removed  {told}")
    return counts


async def _put(objects: ClusterObjects, obj: Json) -> Applied:
    """A namespace and a configuration that are there are people's; definitions need rights in the
    whole cluster, which who installs in one namespace may not have."""
    kind, metadata = obj["kind"], obj["metadata"]
    is_peoples = kind == "Namespace" or metadata["name"] == katib_config.CONFIG_MAP
    if is_peoples and await objects.get(kind, metadata["name"], metadata.get("namespace", "")):
        return Applied.UNCHANGED
    if kind != _DEFINITION:
        return await objects.apply(obj)
    there = await objects.get(kind, metadata["name"])
    if there is not None and is_defined_so(there, obj):
        return Applied.UNCHANGED
    done = await objects.apply(obj)
    await _until_served(objects, metadata["name"])
    return done


def is_defined_so(there: Json, wanted: Json) -> bool:
    """Whether a definition is ours, of this version."""
    labels = there["metadata"].get("labels") or {}
    versions = {each["name"]: each.get("schema") for each in there["spec"]["versions"]}
    return PART_OF.items() <= labels.items() and all(
        versions.get(each["name"]) == each["schema"] for each in wanted["spec"]["versions"]
    )


async def _until_served(objects: ClusterObjects, name: str) -> None:
    """Raises StateUnusable."""
    try:
        async with asyncio.timeout(_SERVED_S):
            while True:
                there = await objects.get(_DEFINITION, name) or {}
                conditions = (there.get("status") or {}).get("conditions") or []
                if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise StateUnusable(
            f"the API server does not serve {name} {_SERVED_S:g} s after it was defined",
            hint=f"kubectl describe crd {name}",
        ) from None


async def check_possible(
    objects: ClusterObjects, installation: Installation, password: str = ""
) -> None:
    """Raises NotPossible for what cannot work, before anything is changed."""
    await refuse_beside_installations(objects, installation)
    if installation.cert_manager and "Certificate" not in await objects.kinds(_CERT_MANAGER):
        raise NotPossible(
            "the cluster has no cert-manager: it does not serve cert-manager.io/v1",
            hint="tunesmith install --no-cert-manager, and the controller makes the certificates",
        )
    if installation.database is Database.EXTERNAL and not password:
        await _check_password_is_there(objects, installation.namespace)


async def _check_password_is_there(objects: ClusterObjects, namespace: str) -> None:
    """Raises NotPossible."""
    if await objects.get("Secret", DATABASE_SECRET, namespace) is None:
        raise NotPossible(
            f"the password of the database is not known: there is no Secret {DATABASE_SECRET} in"
            f" namespace {namespace}",
            hint="give --database-password-file",
        )


async def _keep_password(
    objects: ClusterObjects, installation: Installation, given: str, tell: Tell
) -> None:
    """The one that is there, unless another one is given; else one by chance."""
    namespace = installation.namespace
    there = await objects.get("Secret", DATABASE_SECRET, namespace)
    if there is not None and not given:
        return
    password = given or secrets.token_urlsafe(24)
    labels = {**PART_OF, INSTANCE: namespace}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": DATABASE_SECRET, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": {"password": base64.b64encode(password.encode()).decode()},
    }
    if there is not None:
        await objects.apply(secret)
        return
    try:
        await objects.create("Secret", secret)
    except AlreadyExists:
        return
    tell(f"{Applied.CREATED:<8} Secret {DATABASE_SECRET}")
