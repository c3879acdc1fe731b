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
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from tunesmith_controller.admission.local import World
from tunesmith_controller.admission.pods import InjectionSettings
from tunesmith_controller.admission.stored import admitted
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
from tunesmith_controller.workloads.cluster import ClusterWorkloadSettings, KubernetesWorkloads
from tunesmith_earlystopping.core import LocalRules
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel
from tunesmith_proto.credentials import FollowedChannel, Identity

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
    state = _State()
    probes = Probes(alive={"manager": lambda: state.ended})
    app = probes_app(probes, registry)
    try:
        await first_ended(
            serve_probes(app, settings.probe_host, settings.probe_ports),
            _lead(settings, transport, Series(registry), on_lead),
        )
    finally:
        state.ended = "it has ended"


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
        async with _opened(settings, transport) as (ports, events, config):

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
    settings: ClusterSettings, transport: ApiTransport
) -> AsyncIterator[tuple[Ports, StoredEvents, ConfigSource]]:
    """The adapters of a cluster; closed in the end."""
    trust, clock = settings.trust, SystemClock()
    store = RestStore(transport, only=settings.only)
    events = StoredEvents(store, clock, LoggedEvents(), kept=None)
    config = ConfigSource(store, settings.namespace)
    namespaces = None if settings.only is None else (settings.only,)
    host = ClusterAlgorithmHost(
        transport, config, ClusterHostSettings(settings.suggestions, namespaces)
    )
    workloads = KubernetesWorkloads(
        transport,
        ClusterWorkloadSettings(
            namespaces=namespaces,
            injection=settings.injection,
            inject_templates=settings.inject_templates,
        ),
    )
    client = GrpcSuggestionClient(
        trust=lambda target: trust if target == settings.suggestions else None
    )
    channel = (
        FollowedChannel(trust, lambda shown: open_channel(settings.observations, shown))
        if trust
        else open_channel(settings.observations)
    )
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(workloads.aclose)
        opened.push_async_callback(host.aclose)
        opened.push_async_callback(client.close)
        opened.push_async_callback(channel.close)
        ports = Ports(
            store=store,
            workloads=workloads,
            host=host,
            suggestions=client,
            observations=GrpcObservationLog(channel),
            clock=clock,
            rng=SystemRng(),
            events=events,
            stopping=LocalRules(),
        )
        yield ports, events, config
