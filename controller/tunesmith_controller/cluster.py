# SPDX-License-Identifier: Apache-2.0
"""The controller of a cluster: one of several replicas, of which the holder of a Lease controls.

Called by `tunesmith controller --cluster`. Every replica answers probes; the leader runs the
manager over the cluster's API, our suggestion service and the observation service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.pods import InjectionSettings
from tunesmith_controller.admission.stored import admitted
from tunesmith_controller.adoption.driver import adopt
from tunesmith_controller.apiserver.stored_events import StoredEvents
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.events import LoggedEvents
from tunesmith_controller.hosts.cluster_host import ClusterAlgorithmHost, ClusterHostSettings
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.katib_config import ConfigSource
from tunesmith_controller.local_control import settle_memory
from tunesmith_controller.manager.election import ElectionSettings, LeaseElection
from tunesmith_controller.manager.manager import Manager, ManagerSettings
from tunesmith_controller.ports import Json, Key, Ports
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.telemetry.probes import Probes, probes_app, serve_probes
from tunesmith_controller.telemetry.series import Series
from tunesmith_controller.webhook.authority import (
    CertificateKeeper,
    CertificateSettings,
    FileCertificates,
)
from tunesmith_controller.webhook.handlers import ExperimentReviews, PodReviews
from tunesmith_controller.webhook.server import serve_webhooks, webhook_app
from tunesmith_controller.workloads.cluster import ClusterWorkloadSettings, KubernetesWorkloads
from tunesmith_controller.workloads.cluster_rows import PodRows
from tunesmith_earlystopping.core import LocalRules
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel
from tunesmith_proto.credentials import FollowedChannel, Identity, TokenFile, Trust

_log = logging.getLogger(__name__)

LEASE = "tunesmith-controller"
Keeper = CertificateKeeper | FileCertificates


@dataclass(frozen=True, slots=True)
class OwnCertificates:
    """We are our own authority. names: what the certificates are for besides the usual names of
    the services in a cluster, by service."""

    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """namespace: where this controller is installed. only: the one namespace that it looks after,
    None for all. suggestions, observations: addresses of the services.

    certificates: who makes those of the installation: we, or somebody else who puts this
    controller's into a folder; None for none. ca_file: whom to trust where we keep no
    certificates, None for services in plain text. token_file: by what the services know this
    controller. injection: how pods are collected, by the webhooks or, where there is
    no `webhook_port`, while a job is made. probe_ports: metrics and health. replica: its name in
    the election."""

    namespace: str = "kubeflow"
    only: str | None = None
    suggestions: str = "tunesmith-suggestion.kubeflow:6789"
    observations: str = "tunesmith-observation.kubeflow:6790"
    certificates: Path | OwnCertificates | None = None
    ca_file: Path | None = None
    token_file: Path | None = None
    injection: InjectionSettings | None = None
    webhook_port: int | None = None
    probe_host: str = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come from elsewhere
    probe_ports: tuple[int, ...] = (8080, 18080)
    replica: str = field(default_factory=socket.gethostname)
    election: ElectionSettings = field(default_factory=ElectionSettings)
    manager: ManagerSettings = field(
        default_factory=lambda: ManagerSettings(sweeps=True, status_every_s=1.0, remembers=True)
    )


class LeadershipLost(Exception):
    """Another replica may lead from now on; this process has to start over."""


async def control_cluster(
    settings: ClusterSettings,
    transport: ApiTransport,
    *,
    on_lead: Callable[[], None] = lambda: None,
) -> None:
    """Waits for the lease, then controls until cancelled. Raises LeadershipLost, Unavailable."""
    settle_memory()
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    state, keeper = _State(), _keeper(settings, transport)
    probes = Probes(
        alive={"manager": lambda: state.ended},
        ready={} if keeper is None else {"certificates": lambda: _uncertified(keeper)},
    )
    app = probes_app(probes, registry)
    parts = [
        serve_probes(app, settings.probe_host, settings.probe_ports),
        _lead(settings, transport, keeper, Series(registry), on_lead),
    ]
    if keeper is not None:
        parts.append(keeper.run())
        if settings.webhook_port is not None:
            parts.append(_admit(settings, transport, keeper))
    try:
        await first_ended(*parts)
    finally:
        state.ended = "it has ended"


def _keeper(settings: ClusterSettings, transport: ApiTransport) -> Keeper | None:
    if settings.certificates is None:
        return None
    own = settings.certificates if isinstance(settings.certificates, OwnCertificates) else None
    kept = CertificateSettings(
        settings.namespace,
        services=own.names if own else {},
        namespaces=None if settings.only is None else (settings.only,),
        webhooks=settings.webhook_port is not None,
    )
    if isinstance(settings.certificates, Path):
        return FileCertificates(transport, settings.certificates, kept)
    return CertificateKeeper(transport, SystemClock(), kept)


def _uncertified(keeper: Keeper) -> str:
    return "" if keeper.kept.is_set() else "the certificates are not there yet"


async def _admit(settings: ClusterSettings, transport: ApiTransport, keeper: Keeper) -> None:
    """Every replica does, whoever leads. Raises Unavailable when the port cannot be had."""
    store = RestStore(transport)
    config = ConfigSource(store, settings.namespace)
    experiments = ExperimentReviews(store, lambda: world_of(config))
    await experiments.warm()
    await keeper.kept.wait()
    await serve_webhooks(
        webhook_app(experiments, PodReviews(settings.injection)),
        keeper.live.context,
        host=settings.probe_host,
        port=settings.webhook_port or 0,
    )


async def first_ended(*parts: Coroutine[None, None, None]) -> None:
    """Runs parts until one of them ends, or this is cancelled; none outlives it. Raises what the
    first raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _State:
    ended: str = ""


async def _lead(
    settings: ClusterSettings,
    transport: ApiTransport,
    keeper: Keeper | None,
    series: Series,
    on_lead: Callable[[], None],
) -> None:
    leases = RestStore(transport)
    key = Key("Lease", settings.namespace, LEASE)
    election = LeaseElection(leases, key, settings.replica, settings.election)
    await election.acquire()
    _log.info("%s leads", settings.replica)
    try:
        on_lead()
        if keeper is not None:
            await keeper.kept.wait()
        async with _opened(settings, transport, keeper) as (ports, events, config, host):
            await adopt(ports.store, ports.rng, settings.only, host)

            async def admission(experiment: Json) -> Json:
                return await admitted(ports.store, experiment, world=await world_of(config))

            manager = Manager(ports, settings.manager, watcher=series, admission=admission)
            await first_ended(_lost(election), manager.run(), events.run())
    finally:
        await election.release()


async def world_of(config: ConfigSource) -> World:
    """What an Experiment may ask for in a cluster. Raises Invalid for a configuration that cannot
    be read, Unavailable."""
    current = await config.current()
    return World(
        is_cluster=True, algorithms=current.algorithms(), stopping=current.stopping_rules()
    )


async def _lost(election: LeaseElection) -> None:
    await election.lost.wait()
    raise LeadershipLost("the lease could not be renewed; another replica may lead now")


@asynccontextmanager
async def _opened(
    settings: ClusterSettings, transport: ApiTransport, keeper: Keeper | None
) -> AsyncIterator[tuple[Ports, StoredEvents, ConfigSource, ClusterAlgorithmHost]]:
    """The adapters of a cluster; closed in the end."""
    clock, trust = SystemClock(), _trust(settings, keeper)
    store = RestStore(transport, only=settings.only)
    events = StoredEvents(store, clock, LoggedEvents(), kept=None)
    config = ConfigSource(store, settings.namespace)
    namespaces = None if settings.only is None else (settings.only,)
    host = ClusterAlgorithmHost(
        transport, config, ClusterHostSettings(settings.suggestions, namespaces)
    )
    client = GrpcSuggestionClient(
        trust=lambda target: trust if target == settings.suggestions else None
    )
    channel = (
        FollowedChannel(trust, lambda shown: open_channel(settings.observations, shown))
        if trust
        else open_channel(settings.observations)
    )
    observations = GrpcObservationLog(channel)
    copies = Path(tempfile.mkdtemp(prefix="tunesmith-logs-"))
    workloads = KubernetesWorkloads(
        transport,
        ClusterWorkloadSettings(
            namespaces=namespaces,
            injection=settings.injection,
            inject_templates=settings.webhook_port is None,
        ),
        prepare=None if keeper is None else keeper.copies.ensure,
        rows=PodRows(transport, observations, copies),
    )
    async with contextlib.AsyncExitStack() as opened:
        opened.callback(shutil.rmtree, copies, ignore_errors=True)
        opened.push_async_callback(workloads.aclose)
        opened.push_async_callback(host.aclose)
        opened.push_async_callback(client.close)
        opened.push_async_callback(channel.close)
        ports = Ports(
            store=store,
            workloads=workloads,
            host=host,
            suggestions=client,
            observations=observations,
            clock=clock,
            rng=SystemRng(),
            events=events,
            stopping=LocalRules(),
        )
        yield ports, events, config, host


@dataclass(frozen=True, slots=True)
class _KeptTrust:
    """Those authorities that a keeper has told everybody to trust."""

    keeper: Keeper
    read_token: TokenFile | None

    def authorities(self) -> bytes:
        return self.keeper.copies.bundle

    def token(self) -> str | None:
        return None if self.read_token is None else self.read_token()


def _trust(settings: ClusterSettings, keeper: Keeper | None) -> Trust | None:
    """Of our services; None where they speak plain text."""
    if keeper is not None:
        token = None if settings.token_file is None else TokenFile(settings.token_file)
        return _KeptTrust(keeper, token)
    if settings.ca_file is not None:
        return Identity(settings.ca_file, settings.token_file)
    return None
