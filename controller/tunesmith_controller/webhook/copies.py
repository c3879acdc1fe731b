# SPDX-License-Identifier: Apache-2.0
"""Whom to trust, as a ConfigMap in every namespace with trials: their pods mount it.

Kept by whoever keeps the certificates. `KubernetesWorkloads` calls `ensure` before it makes a job,
since a pod does not start without what it mounts.
"""

from __future__ import annotations

from typing import Final

from tunesmith_controller.ports import (
    AlreadyExists,
    Conflict,
    Json,
    Key,
    NotFound,
    Unavailable,
)
from tunesmith_controller.stores.rest import RestStore

CONFIG_MAP: Final = "tunesmith-ca"
DATA_KEY: Final = "ca.crt"
LABEL: Final = "tunesmith.dev/authorities"
_TRIES: Final = 5


class AuthorityCopies:
    """Of one installation; `home` is its namespace. `namespaces` are all where there may be
    copies; None for any."""

    def __init__(
        self, store: RestStore, home: str, namespaces: tuple[str, ...] | None = None
    ) -> None:
        self._store = store
        self._home = home
        self._namespaces = namespaces
        self._text = ""
        self._there: set[str] = set()

    @property
    def bundle(self) -> bytes:
        """The authorities to trust, as PEM; empty before anything was published."""
        return self._text.encode()

    async def publish(self, text: str) -> None:
        """Writes the text to every copy that there is, and to the installation's own. Raises
        PortErrors; what was told then is told again."""
        self._text = text
        found = await self._found()
        self._there = {each["metadata"]["namespace"] for each in found if _text_of(each) == text}
        for namespace in {each["metadata"]["namespace"] for each in found} | {self._home}:
            await self.ensure(namespace)

    async def ensure(self, namespace: str) -> None:
        """Costs nothing where the copy is there. Raises Unavailable before anything was published,
        and PortErrors."""
        if not self._text:
            raise Unavailable("the certificates of this installation are not made yet")
        if namespace in self._there:
            return
        text = self._text
        for _ in range(_TRIES):
            if await self._written(namespace, text):
                self._there.add(namespace)
                return
        raise Conflict(f"ConfigMap {CONFIG_MAP} of namespace {namespace} is changed all the time")

    async def _found(self) -> list[Json]:
        labels = {LABEL: "true"}
        if self._namespaces is None:
            return (await self._store.list("ConfigMap", labels=labels)).items
        return [
            each
            for namespace in dict.fromkeys((*self._namespaces, self._home))
            for each in (
                await self._store.list("ConfigMap", namespace=namespace, labels=labels)
            ).items
        ]

    async def _written(self, namespace: str, text: str) -> bool:
        """Whether nobody was quicker."""
        key = Key("ConfigMap", namespace, CONFIG_MAP)
        metadata = {"name": CONFIG_MAP, "namespace": namespace, "labels": {LABEL: "true"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        try:
            before = await self._store.get(key)
        except NotFound:
            before = None
        try:
            if before is None:
                await self._store.create({**body, "data": {DATA_KEY: text}})
            elif _text_of(before) != text:
                labels = {**(before["metadata"].get("labels") or {}), LABEL: "true"}
                metadata = {**before["metadata"], "labels": labels}
                await self._store.update({**before, "metadata": metadata, "data": {DATA_KEY: text}})
        except (AlreadyExists, Conflict, NotFound):
            return False
        return True


def _text_of(config_map: Json) -> str:
    labels = config_map["metadata"].get("labels") or {}
    text = (config_map.get("data") or {}).get(DATA_KEY, "")
    return str(text) if labels.get(LABEL) == "true" else ""
