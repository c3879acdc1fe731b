# SPDX-License-Identifier: Apache-2.0
"""The admission webhooks as a real API server calls them, and their certificates over rotations."""

from __future__ import annotations

import asyncio
import base64
import http.client
import itertools
import json
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cluster_client import Json, Refused
from cluster_transport import transport_to
from cluster_trials import install_kinds, job_of, trial_run
from cryptography import x509
from given import experiment
from running_cluster import Cluster

from tunesmith_controller.admission.collection import CollectionPlan, mark
from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.pods import SIDECAR, InjectionSettings
from tunesmith_controller.clock import SystemClock
from tunesmith_controller.http_serving import listen, serve_http
from tunesmith_controller.ports import Clock, Unavailable
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.webhook.authority import (
    CertificateKeeper,
    CertificateSettings,
    FileCertificates,
)
from tunesmith_controller.webhook.certificates import Policy
from tunesmith_controller.webhook.configurations import MUTATING, Reached, webhook_configurations
from tunesmith_controller.webhook.handlers import ExperimentReviews, PodReviews
from tunesmith_controller.webhook.server import webhook_app
from tunesmith_controller.workloads.cluster import ClusterWorkloadSettings, KubernetesWorkloads

pytestmark = pytest.mark.integration

INJECTION = InjectionSettings("test.local/tunesmith:1")
LOCAL = "127.0.0.1"
_NUMBERS = itertools.count(1)


class Later:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time


@dataclass
class Place:
    """The namespace of an installation, and one with trials."""

    cluster: Cluster
    system: str
    trials: str

    def settings(self) -> CertificateSettings:
        names = {"tunesmith-controller": [LOCAL]}
        return CertificateSettings(namespace=self.system, services=names)

    def create(self, path: str, body: Json) -> Json:
        return self.cluster.api.request("POST", path, body)

    def pods(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.trials}/pods" + (f"/{name}" if name else "")

    def experiments(self) -> str:
        return f"/apis/kubeflow.org/v1beta1/namespaces/{self.trials}/experiments"

    def register(self, port: int) -> None:
        self.cluster.apply(webhook_configurations(Reached(url=f"https://{LOCAL}:{port}")))

    def bundle(self) -> bytes:
        path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        found = self.cluster.api.request("GET", f"{path}/tunesmith.kubeflow.org")
        [text] = {each["clientConfig"]["caBundle"] for each in found["webhooks"]}
        return base64.b64decode(text)

    def config_map(self, namespace: str) -> Json:
        path = f"/api/v1/namespaces/{namespace}/configmaps/tunesmith-ca"
        return self.cluster.api.request("GET", path)

    def secret(self, name: str) -> Json:
        return self.cluster.api.request("GET", f"/api/v1/namespaces/{self.system}/secrets/{name}")


@pytest.fixture
def place(api_cluster: Cluster) -> Iterator[Place]:
    install_kinds(api_cluster)
    system, trials = (api_cluster.namespace_of_test() for _ in range(2))
    yield Place(api_cluster, system, trials)
    for kind in ("mutating", "validating"):
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        if api_cluster.exists(f"{path}/tunesmith.kubeflow.org"):
            api_cluster.api.request("DELETE", f"{path}/tunesmith.kubeflow.org")
    for namespace in (system, trials):
        api_cluster.delete_namespace(namespace)


@dataclass
class Replica:
    """One controller's part: its keeper of certificates and its server."""

    keeper: CertificateKeeper
    port: int


@asynccontextmanager
async def serving(
    place: Place, clock: Clock | None = None, policy: Policy | None = None
) -> AsyncIterator[Replica]:
    """A replica that serves; its configurations are there and are told whom to trust."""
    transport = transport_to(place.cluster)
    keeper = CertificateKeeper(transport, clock or SystemClock(), place.settings(), policy)

    async def world() -> World:
        return World(is_cluster=True)

    app = webhook_app(ExperimentReviews(RestStore(transport), world), PodReviews(INJECTION))
    with closing(listen(LOCAL, 0, "the test")) as listener:
        port = listener.getsockname()[1]
        await asyncio.to_thread(place.register, port)
        await keeper.step()
        server = asyncio.create_task(serve_http(app, listener, tls=keeper.live.context))
        try:
            yield Replica(keeper, port)
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            await transport.aclose()


def pod(name: str, *, collected: bool = True) -> Json:
    plan = CollectionPlan("digits-1", "default", "uid-1", 1, "main", metrics=("loss",))
    metadata = {"name": name}
    spec = {"containers": [{"name": "main", "image": "none", "command": ["train"]}]}
    return {"metadata": mark(metadata, plan) if collected else metadata, "spec": spec}


def unnamed_experiment() -> Json:
    found = experiment(f"digits-{next(_NUMBERS)}").json()
    kept = {name: found[name] for name in ("apiVersion", "kind", "spec")}
    kept["spec"].pop("parallelTrialCount", None)
    return {**kept, "metadata": {"name": found["metadata"]["name"]}}


async def soon(place: Place, path: str, body: Json) -> Json:
    """Creates; the API server hears of new webhooks a moment after they were registered."""
    return await asyncio.to_thread(place.create, path, body)


async def until_called(place: Place) -> None:
    """Until the API server knows of the webhooks."""
    async with asyncio.timeout(20):
        while True:
            name = f"probe-{next(_NUMBERS)}"
            created = await soon(place, f"{place.pods()}?dryRun=All", pod(name))
            if "initContainers" in created["spec"]:
                return
            await asyncio.sleep(0.05)


# ---- what they do -------------------------------------------------------------------------------


def test_experiments_get_defaults_and_are_refused_with_every_fault(place: Place) -> None:
    wrong = unnamed_experiment()
    wrong["spec"]["maxTrialCount"] = 0
    wrong["spec"]["algorithm"] = {"algorithmName": "nobodys"}

    async def scenario() -> tuple[Json, Refused]:
        async with serving(place):
            await until_called(place)
            stored = await soon(place, place.experiments(), unnamed_experiment())
            with pytest.raises(Refused) as refusal:
                await soon(place, place.experiments(), wrong)
            return stored, refusal.value

    stored, refusal = asyncio.run(scenario())
    assert stored["spec"]["parallelTrialCount"] == 3
    assert refusal.code == 422
    fields = {cause["field"] for cause in refusal.status["details"]["causes"]}
    assert "spec.algorithm.algorithmName" in fields
    assert "nobodys" in refusal.status["message"]


def test_the_pods_of_a_trial_get_their_collector_on_the_way(place: Place) -> None:
    run = trial_run(place.cluster, place.trials, "digits-00000001", job_of("train", "it's $HOME"))

    async def scenario() -> None:
        transport = transport_to(place.cluster)
        async with serving(place) as replica:
            await until_called(place)
            settings = ClusterWorkloadSettings(injection=INJECTION)
            prepare = replica.keeper.copies.ensure
            workloads = KubernetesWorkloads(transport, settings, prepare=prepare)
            await workloads.ensure(run)
            await asyncio.to_thread(
                place.cluster.wait_until,
                lambda: place.cluster.api.request("GET", place.pods())["items"],
                "a pod",
                20,
            )
            await workloads.aclose()
        await transport.aclose()

    asyncio.run(scenario())
    [made] = place.cluster.api.request("GET", place.pods())["items"]
    assert [each["name"] for each in made["spec"]["initContainers"]] == [SIDECAR]
    [main] = made["spec"]["containers"]
    assert main["command"] == ["/tunesmith/launcher", "--", "train", "it's $HOME"]
    assert "BEGIN CERTIFICATE" in place.config_map(place.trials)["data"]["ca.crt"]


def test_while_no_webhook_answers_only_pods_of_trials_wait(place: Place) -> None:
    async def scenario() -> None:
        async with serving(place):
            await until_called(place)

    asyncio.run(scenario())
    place.create(place.pods(), pod("somebodys", collected=False))
    with pytest.raises(Refused, match="failed calling webhook"):
        place.create(place.pods(), pod("a-trials"))
    stored = place.create(place.experiments(), unnamed_experiment())
    assert "parallelTrialCount" not in stored["spec"]  # the controller admits it later


def test_a_pod_is_answered_within_50_ms(place: Place) -> None:
    """Each over one connection, as the API server keeps it: 500 pods, printed."""
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "1", "operation": "CREATE", "object": pod("p")},
    }

    def measure(replica: Replica) -> list[float]:
        tls = ssl.create_default_context(cadata=place.bundle().decode())
        connection = http.client.HTTPSConnection(LOCAL, replica.port, context=tls)
        times = []
        for _ in range(500):
            begin = time.perf_counter()
            connection.request("POST", "/mutate-pods", json.dumps(body))
            assert json.loads(connection.getresponse().read())["response"]["patch"]
            times.append(time.perf_counter() - begin)
        connection.close()
        return times

    async def scenario() -> list[float]:
        async with serving(place) as replica:
            return await asyncio.to_thread(measure, replica)

    times = sorted(asyncio.run(scenario()))
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    print(f"mutate-pods: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    assert p99 <= 0.05


# ---- certificates -------------------------------------------------------------------------------

# The API server's clock does not go with the test's, so validity begins long before.
ROTATING = Policy(
    authority_life=timedelta(days=30),
    serving_life=timedelta(days=9),
    settle=timedelta(days=1),
    backdate=timedelta(days=400),
)


def handshake(port: int, bundle: bytes) -> x509.Certificate:
    """Raises SSLError where a client with the bundle does not trust the server."""
    tls = ssl.create_default_context(cadata=bundle.decode())
    with closing(http.client.HTTPSConnection(LOCAL, port, context=tls, timeout=5)) as connection:
        connection.connect()
        found = connection.sock.getpeercert(binary_form=True)
        assert found is not None
        return x509.load_der_x509_certificate(found)


@pytest.mark.timeout(240)
def test_three_rotations_with_two_replicas_fail_no_call(place: Place) -> None:
    clock = Later()
    start = clock.time

    async def scenario() -> set[str]:
        issuers: set[str] = set()
        async with serving(place, clock, ROTATING) as other, serving(place, clock, ROTATING) as one:
            await until_called(place)
            trusted = place.bundle()
            while len(issuers) < 4:
                clock.time += timedelta(hours=18)
                await asyncio.gather(one.keeper.step(), other.keeper.step())
                # Called by the API server, and by clients who know the bundle of the round before.
                created = await soon(place, f"{place.pods()}?dryRun=All", pod("p"))
                assert "initContainers" in created["spec"]
                for replica in (one, other):
                    seen = await asyncio.to_thread(handshake, replica.port, trusted)
                    assert seen.not_valid_after_utc > clock.time
                    issuers.add(seen.issuer.rfc4514_string())
                trusted = place.bundle()
        return issuers

    assert len(asyncio.run(scenario())) == 4
    assert clock.time - start > timedelta(days=60)
    assert 1 <= place.bundle().count(b"BEGIN CERTIFICATE") <= 2


def test_two_replicas_that_start_at_once_agree(place: Place) -> None:
    async def scenario() -> tuple[CertificateKeeper, ...]:
        transport = transport_to(place.cluster)
        keepers = tuple(
            CertificateKeeper(transport, SystemClock(), place.settings()) for _ in range(4)
        )
        await asyncio.gather(*(keeper.step() for keeper in keepers))
        await asyncio.gather(*(keeper.step() for keeper in keepers))
        await transport.aclose()
        return keepers

    keepers = asyncio.run(scenario())
    assert len({keeper.live.loaded for keeper in keepers}) == 1
    data = place.config_map(place.system)["data"]
    assert data["ca.crt"].count("BEGIN CERTIFICATE") == 1


def test_every_service_has_a_certificate_of_its_own_and_not_the_authoritys_key(
    place: Place,
) -> None:
    async def scenario() -> None:
        transport = transport_to(place.cluster)
        await CertificateKeeper(transport, SystemClock(), place.settings()).step()
        await transport.aclose()

    asyncio.run(scenario())
    secret = place.secret("tunesmith-observation-tls")
    assert secret["type"] == "kubernetes.io/tls"
    assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    served = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert f"tunesmith-observation.{place.system}" in names.get_values_for_type(x509.DNSName)


def test_namespaces_with_trials_hear_of_a_new_authority(place: Place) -> None:
    clock = Later()

    async def scenario() -> tuple[str, str, str]:
        transport = transport_to(place.cluster)
        keeper = CertificateKeeper(transport, clock, place.settings(), ROTATING)
        with pytest.raises(Unavailable, match="not made yet"):
            await keeper.copies.ensure(place.trials)
        await keeper.step()
        await keeper.copies.ensure(place.trials)
        before = place.config_map(place.trials)["data"]["ca.crt"]
        clock.time += timedelta(days=21)
        await keeper.step()
        after = place.config_map(place.trials)["data"]["ca.crt"]
        place.cluster.kubectl("delete", "cm", "tunesmith-ca", "-n", place.trials)
        await keeper.step()
        await keeper.copies.ensure(place.trials)
        repaired = place.config_map(place.trials)["data"]["ca.crt"]
        await transport.aclose()
        return before, after, repaired

    before, after, repaired = asyncio.run(scenario())
    assert (before.count("BEGIN"), after.count("BEGIN")) == (1, 2)
    assert after.startswith(before)
    assert repaired == after


def test_certificates_of_somebody_else_are_served_and_told(place: Place, tmp_path: Path) -> None:
    async def scenario() -> FileCertificates:
        transport = transport_to(place.cluster)
        await CertificateKeeper(transport, SystemClock(), place.settings()).step()
        data = place.secret("tunesmith-controller-tls")["data"]
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (tmp_path / name).write_bytes(base64.b64decode(data[name]))
        settings = replace(place.settings(), namespaces=(place.trials,))
        files = FileCertificates(transport, tmp_path, settings)
        await files.step()
        await files.copies.ensure(place.trials)
        (tmp_path / "tls.key").unlink()
        with pytest.raises(Unavailable, match="no certificate in"):
            await files.step()
        await transport.aclose()
        return files

    files = asyncio.run(scenario())
    assert files.live.not_after is not None
    told = place.config_map(place.trials)["data"]["ca.crt"]
    assert told == (tmp_path / "ca.crt").read_text()


def test_the_configurations_name_no_other_pods() -> None:
    for configuration in webhook_configurations(Reached()):
        for webhook in configuration["webhooks"]:
            pods = any("pods" in rule["resources"] for rule in webhook["rules"])
            assert (webhook["failurePolicy"] == "Fail") is pods
            assert ("objectSelector" in webhook) is pods
    assert configuration["kind"] != MUTATING
