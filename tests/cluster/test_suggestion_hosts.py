# SPDX-License-Identifier: Apache-2.0
"""`ClusterAlgorithmHost` on a real API server: the objects it makes and lets go, what it says while
a service does not answer. The service itself is a process of this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest
import yaml
from cluster_client import Json
from cluster_transport import transport_to
from cluster_trials import install_kinds
from katib_leftovers import suggestion_service
from running_cluster import Cluster, free_ports

from tunesmith_controller.hosts.cluster_host import ClusterAlgorithmHost, ClusterHostSettings
from tunesmith_controller.katib_config import ConfigSource
from tunesmith_controller.ports import Endpoint, HostFailed, Key, NotReady
from tunesmith_controller.stores.rest import RestStore

pytestmark = pytest.mark.integration

SECONDS = 30.0
SHARED = "tunesmith-suggestion.kubeflow:6789"
CONFIG = """
apiVersion: config.kubeflow.org/v1beta1
kind: KatibConfig
runtime:
  suggestions:
    - algorithmName: theirs
      image: example.org/theirs:1
      serviceAccountName: default
      env: [{name: DEPTH, value: "3"}]
      resources: {limits: {memory: 300Mi}}
    - algorithmName: broken
"""


@dataclass
class Place:
    """A namespace with Suggestions, and the configuration of the installation."""

    cluster: Cluster
    namespace: str
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def suggestion(self, name: str, *, algorithm: str = "theirs", policy: str = "Never") -> Key:
        spec = {"algorithm": {"algorithmName": algorithm}, "resumePolicy": policy, "requests": 1}
        metadata = {"name": name, "labels": {"team": "x"}}
        kind = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Suggestion"}
        path = f"/apis/kubeflow.org/v1beta1/namespaces/{self.namespace}/suggestions"
        self.cluster.api.request("POST", path, {**kind, "metadata": metadata, "spec": spec})
        return Key("Suggestion", self.namespace, name)

    def configure(self, suggestions: list[Json]) -> None:
        """The configuration of the installation has these entries of algorithms alone."""
        config = {"apiVersion": "config.kubeflow.org/v1beta1", "kind": "KatibConfig"}
        text = yaml.safe_dump({**config, "runtime": {"suggestions": suggestions}})
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/katib-config"
        self.cluster.api.request("PATCH", path, {"data": {"katib-config.yaml": text}})

    def path(self, kind: str, name: str) -> str:
        group = {"deployments": "apis/apps/v1"}.get(kind, "api/v1")
        return f"/{group}/namespaces/{self.namespace}/{kind}/{name}"

    def get(self, kind: str, name: str) -> Json:
        return self.cluster.api.request("GET", self.path(kind, name))

    def has(self, kind: str, name: str) -> bool:
        """Whether it is there and stays."""
        if not self.cluster.exists(self.path(kind, name)):
            return False
        return not self.get(kind, name)["metadata"].get("deletionTimestamp")

    def pods(self) -> list[Json]:
        found = self.cluster.api.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        items: list[Json] = found["items"]
        return items

    @contextmanager
    def service(self) -> Iterator[None]:
        """A suggestion service where the host looks for it."""
        argv = [sys.executable, "-m", "tunesmith_suggestion", "--insecure"]
        with subprocess.Popen([*argv, "--listen", f"127.0.0.1:{self.port}"]) as process:
            try:
                yield
            finally:
                process.terminate()


@pytest.fixture
def place(api_cluster: Cluster) -> Iterator[Place]:
    install_kinds(api_cluster)
    namespace = api_cluster.namespace_of_test()
    metadata = {"name": "katib-config", "namespace": namespace}
    data = {"katib-config.yaml": CONFIG}
    api_cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    yield Place(api_cluster, namespace)
    api_cluster.delete_namespace(namespace)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[ClusterAlgorithmHost]:
    transport = transport_to(place.cluster)
    config = ConfigSource(RestStore(transport), place.namespace, fresh_s=0)
    address: Callable[[str, str], str] = lambda namespace, name: f"127.0.0.1:{place.port}"  # noqa: E731
    settings = ClusterHostSettings(SHARED, own=frozenset({"random"}), address=address)
    host = ClusterAlgorithmHost(transport, config, settings)
    try:
        yield host
    finally:
        await host.aclose()
        await transport.aclose()


async def until(
    host: ClusterAlgorithmHost, key: Key, check: Callable[[object], bool], algorithm: str = "theirs"
) -> object:
    state: object = None
    try:
        async with asyncio.timeout(SECONDS):
            while not check(state := await host.ensure(key, algorithm)):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {SECONDS} s; the last state is {state}") from None
    return state


def answers(state: object) -> bool:
    return isinstance(state, Endpoint)


def says(*words: str) -> Callable[[object], bool]:
    return lambda state: isinstance(state, NotReady) and all(w in state.reason for w in words)


def starting(state: object) -> bool:
    return says("is starting")(state)


async def become(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(check):
            await asyncio.sleep(0.05)


# ---- where an algorithm is answered -------------------------------------------------------------


def test_our_own_algorithms_are_answered_by_the_service_that_is_there(place: Place) -> None:
    key = place.suggestion("digits", algorithm="random")

    async def scenario() -> object:
        async with opened(place) as host:
            state = await host.ensure(key, "random")
            await host.release(key)
            return state

    assert asyncio.run(scenario()) == Endpoint(SHARED)
    assert not place.has("deployments", "digits-random")


@pytest.mark.parametrize(
    ("image", "own"),
    [
        ("docker.io/kubeflowkatib/suggestion-hyperopt:v0.16.0", True),
        ("ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0", True),
        ("registry.corp/random:3", False),
    ],
)
def test_katibs_own_image_for_an_algorithm_of_ours_is_not_run(
    place: Place, image: str, own: bool
) -> None:
    key = place.suggestion("digits", algorithm="random")
    place.configure([{"algorithmName": "random", "image": image}])

    async def scenario() -> object:
        async with opened(place) as host:
            return await host.ensure(key, "random")

    assert (asyncio.run(scenario()) == Endpoint(SHARED)) is own


def of_katib(place: Place, key: Key) -> None:
    """The service that Katib made for a search."""
    path = f"/apis/kubeflow.org/v1beta1/namespaces/{key.namespace}/suggestions/{key.name}"
    place.cluster.apply(suggestion_service(place.cluster.api.request("GET", path)))


@pytest.mark.parametrize(
    ("image", "kept"),
    [
        ("", False),
        ("ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0", False),
        ("registry.corp/random:3", True),
    ],
)
def test_katibs_service_goes_where_ours_answers(place: Place, image: str, kept: bool) -> None:
    key = place.suggestion("digits", algorithm="random", policy="LongRunning")
    of_katib(place, key)
    if image:
        place.configure([{"algorithmName": "random", "image": image}])

    async def scenario() -> None:
        async with opened(place) as host:
            await host.retire(key, "random")
            await host.retire(key, "random")  # a repeat finds nothing

    asyncio.run(scenario())
    assert [place.has(kind, "digits-random") for kind in ("deployments", "services")] == [kept] * 2


def test_what_somebody_else_has_under_the_name_is_not_retired(place: Place) -> None:
    key = place.suggestion("digits", algorithm="random")
    of_katib(place, place.suggestion("other", algorithm="random"))
    path = place.path("deployments", "other-random")
    there = place.cluster.api.request("GET", path)
    head = {"name": "digits-random", "namespace": place.namespace}
    owners = there["metadata"]["ownerReferences"]
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    metadata = {**head, "ownerReferences": owners}
    place.cluster.apply({**kind, "metadata": metadata, "spec": there["spec"]})

    async def scenario() -> None:
        async with opened(place) as host:
            await host.retire(key, "random")

    asyncio.run(scenario())
    assert place.has("deployments", "digits-random")


def test_no_policy_keeps_katibs_service_of_a_search_that_ours_answered(place: Place) -> None:
    key = place.suggestion("digits", algorithm="random", policy="LongRunning")
    of_katib(place, key)

    async def scenario() -> None:
        async with opened(place) as host:
            assert await host.ensure(key, "random") == Endpoint(SHARED)
            await host.release(key)

    asyncio.run(scenario())
    assert not place.has("deployments", "digits-random")
    assert not place.has("services", "digits-random")


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        ("nobodys", "katib-config has no entry of runtime.suggestions for it"),
        ("broken", "runtime.suggestions[1] (broken).image is missing"),
    ],
)
def test_what_nobody_answers_fails_with_the_reason(
    place: Place, algorithm: str, words: str
) -> None:
    key = place.suggestion("digits", algorithm=algorithm)

    async def scenario() -> object:
        async with opened(place) as host:
            return await host.ensure(key, algorithm)

    state = asyncio.run(scenario())
    assert isinstance(state, HostFailed)
    assert words in state.reason


def test_an_image_of_the_configuration_becomes_a_service_as_katib_makes_it(place: Place) -> None:
    key = place.suggestion("digits")

    async def scenario() -> None:
        async with opened(place) as host:
            await until(host, key, starting)

    asyncio.run(scenario())
    deployment, service = (place.get(kind, "digits-theirs") for kind in ("deployments", "services"))
    labels = {
        "team": "x",
        "katib.kubeflow.org/deployment": "digits-theirs",
        "katib.kubeflow.org/experiment": "digits",
        "katib.kubeflow.org/suggestion": "digits",
        "sidecar.istio.io/inject": "false",
    }
    assert deployment["metadata"]["labels"] == service["metadata"]["labels"] == labels
    assert deployment["spec"]["template"]["metadata"]["labels"] == labels
    assert [o["kind"] for o in deployment["metadata"]["ownerReferences"]] == ["Suggestion"]
    ports = [(port["name"], port["port"]) for port in service["spec"]["ports"]]
    assert ports == [("suggestion-api", 6789)]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "default"
    [container] = pod["containers"]
    assert (container["name"], container["image"]) == ("suggestion", "example.org/theirs:1")
    assert container["env"] == [{"name": "DEPTH", "value": "3"}]
    assert container["resources"]["limits"]["memory"] == "300Mi"
    assert container["resources"]["requests"]["cpu"] == "50m"
    assert container["livenessProbe"]["grpc"]["service"] == "manager.v1beta1.Suggestion"


def test_a_service_is_used_as_soon_as_it_answers(place: Place) -> None:
    key = place.suggestion("digits")

    async def scenario() -> tuple[object, float]:
        async with opened(place) as host:
            await until(host, key, starting)
            with place.service():
                await become(lambda: _listens(place.port))
                listening = time.monotonic()
                state = await until(host, key, answers)
                return state, time.monotonic() - listening

    state, seconds = asyncio.run(scenario())
    assert state == Endpoint(f"127.0.0.1:{place.port}")
    assert seconds < 2.5


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_new_controller_takes_the_service_over(place: Place) -> None:
    key = place.suggestion("digits")

    async def scenario() -> tuple[str, str]:
        with place.service():
            async with opened(place) as host:
                await until(host, key, answers)
                before = place.get("deployments", "digits-theirs")["metadata"]["uid"]
            async with opened(place) as host:
                await until(host, key, answers)
                return before, place.get("deployments", "digits-theirs")["metadata"]["uid"]

    before, after = asyncio.run(scenario())
    assert before == after


# ---- when it does not come up -------------------------------------------------------------------


def test_a_pod_that_cannot_start_is_the_reason(place: Place) -> None:
    key = place.suggestion("digits")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {
        "name": "suggestion",
        "ready": False,
        "restartCount": 0,
        "image": "",
        "imageID": "",
    }

    async def scenario() -> None:
        async with opened(place) as host:
            await until(host, key, starting)
            await become(lambda: bool(place.pods()))
            path = place.path("pods", place.pods()[0]["metadata"]["name"]) + "/status"
            status = {"containerStatuses": [{**container, "state": {"waiting": waiting}}]}
            await asyncio.to_thread(place.cluster.api.request, "PATCH", path, {"status": status})
            await until(host, key, says("cannot start, ImagePullBackOff: no such image"))

    asyncio.run(scenario())


def test_pods_that_may_not_be_made_are_the_reason(place: Place) -> None:
    key = place.suggestion("digits")
    place.cluster.api.request(
        "POST",
        f"/api/v1/namespaces/{place.namespace}/resourcequotas",
        {"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}},
    )

    async def scenario() -> None:
        async with opened(place) as host:
            await until(host, key, says("exceeded quota: no-pods"))

    asyncio.run(scenario())


def test_a_deployment_of_somebody_else_is_left_alone(place: Place) -> None:
    key = place.suggestion("digits")
    labels = {"app": "theirs"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template, "replicas": 0}
    body = {"metadata": {"name": "digits-theirs"}, "spec": spec}
    path = place.path("deployments", "")[:-1]
    before = place.cluster.api.request("POST", path, body)

    async def scenario() -> object:
        async with opened(place) as host:
            state = await until(host, key, lambda state: isinstance(state, HostFailed))
            await host.release(key)
            return state

    state = asyncio.run(scenario())
    assert isinstance(state, HostFailed)
    assert "has a Deployment named digits-theirs that is not tunesmith's" in state.reason
    after = place.get("deployments", "digits-theirs")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_deployment_that_somebody_deletes_is_made_again(place: Place) -> None:
    key = place.suggestion("digits")

    async def scenario() -> tuple[str, str]:
        async with opened(place) as host:
            with place.service():
                await until(host, key, answers)
            before = place.get("deployments", "digits-theirs")["metadata"]["uid"]
            path = place.path("deployments", "digits-theirs")
            await asyncio.to_thread(place.cluster.api.request, "DELETE", path)
            await become(
                lambda: (
                    place.has("deployments", "digits-theirs")
                    and place.get("deployments", "digits-theirs")["metadata"]["uid"] != before
                )
            )
            after = place.get("deployments", "digits-theirs")["metadata"]["uid"]
            await until(host, key, starting)
            return before, after

    before, after = asyncio.run(scenario())
    assert before != after


# ---- letting go ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("Never", set()),
        ("FromVolume", {"persistentvolumeclaims"}),
        ("LongRunning", {"deployments", "services"}),
    ],
)
def test_the_resume_policy_says_what_stays(place: Place, policy: str, kept: set[str]) -> None:
    key = place.suggestion("digits", policy=policy)
    kinds = ("deployments", "services", "persistentvolumeclaims")

    async def scenario() -> None:
        async with opened(place) as host:
            await until(host, key, starting)
            await become(lambda: place.has("services", "digits-theirs"))
            await host.release(key)
        async with opened(place) as host:
            await host.release(key)  # as a controller that has just started

    asyncio.run(scenario())
    assert {kind for kind in kinds if place.has(kind, "digits-theirs")} == kept


def test_a_volume_is_mounted_where_the_configuration_says(place: Place) -> None:
    key = place.suggestion("digits", policy="FromVolume")

    async def scenario() -> None:
        async with opened(place) as host:
            await until(host, key, starting)

    asyncio.run(scenario())
    claim = place.get("persistentvolumeclaims", "digits-theirs")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "Suggestion"
    pod = place.get("deployments", "digits-theirs")["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "digits-theirs"}
    assert pod["containers"][0]["volumeMounts"] == [
        {"name": "suggestion-volume", "mountPath": "/opt/katib/data"}
    ]
