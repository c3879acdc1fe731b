# SPDX-License-Identifier: Apache-2.0
"""Objects through an API that goes away, and where a client finds its objects at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import written

from tunesmith.access import LocalAccess, Place, open_access
from tunesmith.client import Client
from tunesmith.errors import StateUnusable
from tunesmith.served_store import ServedStore
from tunesmith_controller.apiserver.address import ApiAddress, write_address
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.ports import Json, Key, ObjectStore, Unavailable, WatchEvent
from tunesmith_controller.stores.sqlite import SqliteStore

KEY = Key("ConfigMap", "default", "one")


def a_map(name: str = "one") -> Json:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


class Server:
    """Answers as the store of a plane does, until it is gone."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.is_gone = False
        self.calls = 0

    def _asked(self) -> None:
        self.calls += 1
        if self.is_gone:
            raise Unavailable("it does not answer")

    async def get(self, key: Key) -> Json:
        self._asked()
        return await self.store.get(key)

    async def create(self, obj: Json) -> Json:
        self._asked()
        return await self.store.create(obj)

    async def watch(self, kind: str, **options: str) -> AsyncIterator[WatchEvent]:
        async for event in self.store.watch(kind, **options):
            yield event
            self._asked()


def with_server(
    home: Path, scenario: Callable[[ObjectStore, Server, ObjectStore], Awaitable[None]]
) -> None:
    async def opened() -> None:
        async with LocalPlane.open(home) as plane:
            server = Server(plane.store)
            await scenario(ServedStore(server, plane.store), server, plane.store)  # type: ignore[arg-type]

    asyncio.run(opened())


def test_reads_go_on_when_the_api_goes_away_and_ask_it_no_more(tmp_path: Path) -> None:
    async def scenario(store: ObjectStore, server: Server, direct: ObjectStore) -> None:
        await store.create(a_map())
        server.is_gone = True
        assert (await store.get(KEY))["data"] == {"a": "1"}
        asked = server.calls
        assert (await store.get(KEY))["data"] == {"a": "1"}
        assert server.calls == asked

    with_server(tmp_path, scenario)


def test_a_write_is_not_repeated_because_it_may_have_been_done(tmp_path: Path) -> None:
    async def scenario(store: ObjectStore, server: Server, direct: ObjectStore) -> None:
        server.is_gone = True
        with pytest.raises(Unavailable, match="went away while it was asked to write"):
            await store.create(a_map())
        assert (await direct.list("ConfigMap")).items == []
        await store.create(a_map())
        assert len((await direct.list("ConfigMap")).items) == 1

    with_server(tmp_path, scenario)


def test_a_watch_ends_and_the_next_one_goes_on_from_the_same_version(tmp_path: Path) -> None:
    async def scenario(store: ObjectStore, server: Server, direct: ObjectStore) -> None:
        version = (await direct.list("ConfigMap")).resource_version
        await direct.create(a_map("one"))
        await direct.create(a_map("two"))
        server.is_gone = True
        seen = []
        with pytest.raises(Unavailable):
            async for event in store.watch("ConfigMap", resource_version=version):
                seen.append(event.object["metadata"])
        async for event in store.watch("ConfigMap", resource_version=seen[0]["resourceVersion"]):
            seen.append(event.object["metadata"])
            break
        assert [metadata["name"] for metadata in seen] == ["one", "two"]

    with_server(tmp_path, scenario)


# ---- which way ----------------------------------------------------------------------------------


def test_without_an_api_the_directory_is_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_access(Place(tmp_path, LocalSettings())) as access:
            assert isinstance(access, LocalAccess)
            assert access.store is access.plane.store
            assert access.controller == ""

    asyncio.run(scenario())


def test_an_address_that_a_killed_server_left_does_no_harm(tmp_path: Path) -> None:
    import os

    client = Client(tmp_path, "team")
    client.create(written.experiment())
    write_address(tmp_path, ApiAddress("http://127.0.0.1:9", "token", os.getpid()))
    assert [view.name for view in client.experiments()] == ["quick"]
    assert client.pause("quick").paused


def test_a_url_is_never_replaced_by_a_directory(tmp_path: Path) -> None:
    Client(tmp_path, "team").create(written.experiment())
    with pytest.raises(StateUnusable, match=r"the API http://127\.0\.0\.1:9 cannot be used"):
        Client(tmp_path, "team", url="http://127.0.0.1:9").experiments()
