# SPDX-License-Identifier: Apache-2.0
"""The object store contract for `RestStore` over the official client, against a real API server;
and what only a real server does: it goes away, forgets, and is too busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from control_plane import API_SERVER
from plain_definitions import GROUP, KINDS, VERSION, definition
from running_cluster import Cluster

from tunesmith_controller.manager.informer import Informer
from tunesmith_controller.manager.queue import Backoff
from tunesmith_controller.ports import Change, Json, Key, ObjectStore, Unavailable
from tunesmith_controller.stores.kubernetes_transport import (
    KubernetesTransport,
    NoCluster,
    configuration_of,
)
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_transport import ApiRequest
from tunesmith_controller.stores.rest_watch import WatchSettings
from tunesmith_controller.testing import ObjectStoreContract

pytestmark = pytest.mark.integration

_NAMESPACES = ("default", "elsewhere")


@pytest.fixture(scope="module")
def server(api_cluster: Cluster) -> Cluster:
    """The cluster with Katib's kinds and the suite's namespaces."""
    api_cluster.apply([definition(kind) for kind in KINDS])
    if not api_cluster.exists("/api/v1/namespaces/elsewhere"):
        api_cluster.create_namespace("elsewhere")
    for kind in KINDS:
        path = f"/apis/{GROUP}/{VERSION}/{kind.lower()}s"
        api_cluster.wait_until(partial(api_cluster.exists, path), f"{kind} is served")
    return api_cluster


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def emptied(cluster: Cluster) -> None:
    """Without objects of Katib's kinds, whatever holds them."""
    for kind in KINDS:
        collection = f"/apis/{GROUP}/{VERSION}/{kind.lower()}s"
        for item in cluster.api.request("GET", collection)["items"]:
            metadata = item["metadata"]
            path = f"/apis/{GROUP}/{VERSION}/namespaces/{metadata['namespace']}"
            path += f"/{kind.lower()}s/{metadata['name']}"
            if metadata.get("finalizers"):
                cluster.api.raw("PATCH", path, {"metadata": {"finalizers": None}})
            cluster.api.raw("DELETE", path)
        cluster.wait_until(partial(_is_empty, cluster, collection), f"no {kind} left")


def _is_empty(cluster: Cluster, collection: str) -> bool:
    return not cluster.api.request("GET", collection)["items"]


class TestKubernetesStore(ObjectStoreContract):
    history_limit = None  # the server forgets by time
    patience_s = 28.0  # the garbage collector looks for new kinds now and then

    runner: asyncio.Runner

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.runner.run(asyncio.wait_for(scenario, 4 * self.patience_s))

    @pytest.fixture
    def store(self, server: Cluster, runner: asyncio.Runner) -> Iterator[ObjectStore]:
        emptied(server)
        self.runner = runner
        transport = KubernetesTransport.from_config(str(server.kubeconfig))
        yield RestStore(transport)
        runner.run(transport.aclose())

    @pytest.fixture
    def second_store(self, store: ObjectStore, server: Cluster) -> Iterator[ObjectStore]:
        transport = KubernetesTransport.from_config(str(server.kubeconfig))
        yield RestStore(transport)
        self.runner.run(transport.aclose())


# ---- what only a real server does ---------------------------------------------------------------


def trial(name: str, namespace: str = "default") -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Trial", "metadata": metadata, "spec": {}}


@contextlib.asynccontextmanager
async def opened(server: Cluster, **watching: Any) -> Any:
    transport = KubernetesTransport.from_config(str(server.kubeconfig))
    settings = WatchSettings(**watching) if watching else None
    try:
        yield RestStore(transport, watching=settings)
    finally:
        await transport.aclose()


def test_an_informer_sees_what_was_made_around_a_restart_of_the_server(server: Cluster) -> None:
    emptied(server)

    async def scenario() -> set[str]:
        async with opened(server) as store:
            backoff = Backoff(0.05, 1.0)
            informer = Informer(store, "Trial", backoff, lambda: 0.0, lambda obj: obj)
            running = asyncio.ensure_future(informer.run())
            await informer.synced.wait()
            await store.create(trial("before"))
            await asyncio.to_thread(server.restart_api_server)
            await store.create(trial("after"))
            async with asyncio.timeout(60):
                while len(informer.all()) < 2:
                    await asyncio.sleep(0.05)
            running.cancel()
            return {obj["metadata"]["name"] for obj in informer.all()}

    assert asyncio.run(scenario()) == {"before", "after"}


def test_a_server_that_is_paused_is_unavailable_and_then_answers_again(server: Cluster) -> None:
    async def scenario() -> None:
        configuration = configuration_of(str(server.kubeconfig), None)
        transport = KubernetesTransport(configuration, answer_s=1.0)
        request = ApiRequest("GET", "/api/v1/namespaces")
        try:
            assert (await transport.request(request)).status == 200
            server.pause(API_SERVER)
            try:
                with pytest.raises(Unavailable, match="does not answer"):
                    await transport.request(request)
            finally:
                server.resume(API_SERVER)
            async with asyncio.timeout(30):
                while (await transport.request(request)).status != 200:
                    await asyncio.sleep(0.1)
        finally:
            await transport.aclose()

    asyncio.run(scenario())


def test_a_silent_connection_counts_as_lost(server: Cluster) -> None:
    async def scenario() -> float:
        async with opened(server, silence_s=1.0, stream_s=60) as store:
            version = (await store.list("Trial")).resource_version
            watch = store.watch("Trial", resource_version=version)
            loop = asyncio.get_running_loop()
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(2.5)  # longer than the silence: it has reconnected by then
            began = loop.time()
            await store.create(trial(f"late-{int(began * 1000)}"))
            event = await asyncio.wait_for(waiting, 10)
            assert event.change is Change.ADDED
            await watch.aclose()
            return loop.time() - began

    assert asyncio.run(scenario()) < 5.0


def test_closing_a_watch_ends_a_wait_at_once(server: Cluster) -> None:
    async def scenario() -> float:
        async with opened(server) as store:
            version = (await store.list("Trial")).resource_version
            watch = store.watch("Trial", resource_version=version)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.5)
            began = asyncio.get_running_loop().time()
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            await watch.aclose()
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(scenario()) < 5.0


def test_rights_that_are_missing_are_named(server: Cluster) -> None:
    config = server.kubeconfig_of("default", "nobody")

    async def scenario() -> str:
        transport = KubernetesTransport.from_config(str(config))
        try:
            await RestStore(transport).get(Key("Trial", "default", "a"))
        except Unavailable as error:
            return str(error)
        finally:
            await transport.aclose()
        return ""

    said = asyncio.run(scenario())
    assert 'cannot get resource "trials" in API group "kubeflow.org"' in said
    assert "system:serviceaccount:default:nobody" in said


def test_no_configuration_is_a_sentence(tmp_path: Any) -> None:
    broken = tmp_path / "config"
    broken.write_text("clusters: [")
    for file in (tmp_path / "absent", broken):
        with pytest.raises(NoCluster, match="no cluster to talk to"):
            KubernetesTransport.from_config(str(file))
