# SPDX-License-Identifier: Apache-2.0
"""The controller of a cluster: one of several replicas, of which the holder of a Lease controls.

Called by `tunesmith controller --cluster`. Every replica answers probes; the leader runs the
manager over the cluster's API, our suggestion service and the observation service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.pods import InjectionSettings
from tunesmith_controller.admission.stored import admitted
from tunesmith_controller.apiserver.stored_events import StoredEvents
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.events import LoggedEvents
from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.local_control import settle_memory
from tunesmith_controller.manager.election import ElectionSettings, LeaseElection
from tunesmith_controller.manager.manager import Manager, ManagerSettings
from tunesmith_controller.ports import (
    AlgorithmHost,
    Endpoint,
    HostFailed,
    Key,
    NotReady,
    Ports,
    Unavailable,
)
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.telemetry.probes import Probes, probes_app, serve_probes
from tunesmith_controller.telemetry.series import Series
from tunesmith_controller.workloads.cluster import ClusterWorkloadSettings, KubernetesWorkloads
from tunesmith_earlystopping.core import LocalRules
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel
from tunesmith_proto.credentials import Identity

_log = logging.getLogger(__name__)

LEASE = "tunesmith-controller"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """namespace: where this controller is installed. only: the one namespace that it looks after,
    None for all. suggestions, observations: addresses of the services; `trust` is how they are
    trusted, None for plain text. injection: how pods are collected; `inject_templates` where no
    webhook does it. probe_ports: metrics and health. replica: its name in the election."""

    namespace: str = "kubeflow"
    only: str | None = None
    suggestions: str = "tunesmith-suggestion.kubeflow:6789"
    observations: str = "tunesmith-observation.kubeflow:6790"
    trust: Identity | None = None
    injection: InjectionSettings | None = None
    inject_templates: bool = False
    probe_host: str = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus come from elsewhere
    probe_ports: tuple[int, ...] = (8080, 18080)
    replica: str = field(default_factory=socket.gethostname)
    election: ElectionSettings = field(default_factory=ElectionSettings)
    manager: ManagerSettings = field(default_factory=ManagerSettings)


class LeadershipLost(Exception):
    """Another replica may lead from now on; this process has to start over."""


class OneService:
    """`AlgorithmHost` of algorithms that are always there, in one service for all experiments."""

    def __init__(self, target: str) -> None:
        self._target = target

    async def ensure(self, suggestion: Key, algorithm: str) -> Endpoint | NotReady | HostFailed:
        return Endpoint(self._target)

    async def release(self, suggestion: Key) -> None:
        return


async def control_cluster(
    settings: ClusterSettings,
    transport: ApiTransport,
    *,
    host: AlgorithmHost | None = None,
    on_lead: Callable[[], None] = lambda: None,
) -> None:
    """Waits for the lease, then controls until cancelled. Raises LeadershipLost, Unavailable."""
    settle_memory()
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    state = _State()
    probes = Probes(alive={"manager": lambda: state.ended})
    async with asyncio.TaskGroup() as group:
        app = probes_app(probes, registry)
        beside = group.create_task(serve_probes(app, settings.probe_host, settings.probe_ports))
        try:
            await _lead(settings, transport, host, Series(registry), on_lead)
        finally:
            state.ended = "it has ended"
            beside.cancel()


@dataclass(slots=True)
class _State:
    ended: str = ""


async def _lead(
    settings: ClusterSettings,
    transport: ApiTransport,
    host: AlgorithmHost | None,
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
        async with _opened(settings, transport, host) as (ports, events):
            world = World(is_cluster=True)
            manager = Manager(
                ports,
                settings.manager,
                watcher=series,
                admission=lambda found: admitted(ports.store, found, world=world),
            )
            await _while_leading(election, manager.run(), events.run())
    finally:
        await election.release()


async def _while_leading(election: LeaseElection, *parts: object) -> None:
    """Runs parts until one fails, this is cancelled, or the lease is lost."""
    tasks = [asyncio.ensure_future(part) for part in parts]  # type: ignore[call-overload]
    lost = asyncio.ensure_future(election.lost.wait())
    try:
        done, _ = await asyncio.wait([*tasks, lost], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {lost}:
            task.result()
        if lost in done:
            raise LeadershipLost("the lease could not be renewed; another replica may lead now")
        raise Unavailable("the controller ended by itself")
    finally:
        for task in (*tasks, lost):
            task.cancel()
        await asyncio.gather(*tasks, lost, return_exceptions=True)


@asynccontextmanager
async def _opened(
    settings: ClusterSettings, transport: ApiTransport, host: AlgorithmHost | None
) -> AsyncIterator[tuple[Ports, StoredEvents]]:
    """The adapters of a cluster; closed in the end."""
    trust, clock = settings.trust, SystemClock()
    store = RestStore(transport, only=settings.only)
    events = StoredEvents(store, clock, LoggedEvents(), kept=None)
    workloads = KubernetesWorkloads(
        transport,
        ClusterWorkloadSettings(
            namespaces=None if settings.only is None else (settings.only,),
            injection=settings.injection,
            inject_templates=settings.inject_templates,
        ),
    )
    client = GrpcSuggestionClient(
        credentials=lambda target: (
            trust.channel_credentials() if trust and target == settings.suggestions else None
        )
    )
    channel = open_channel(
        settings.observations, None if trust is None else trust.channel_credentials()
    )
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(workloads.aclose)
        opened.push_async_callback(client.close)
        opened.push_async_callback(channel.close)
        ports = Ports(
            store=store,
            workloads=workloads,
            host=host or OneService(settings.suggestions),
            suggestions=client,
            observations=GrpcObservationLog(channel),
            clock=clock,
            rng=SystemRng(),
            events=events,
            stopping=LocalRules(),
        )
        yield ports, events
