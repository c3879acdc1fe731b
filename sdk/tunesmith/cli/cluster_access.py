# SPDX-License-Identifier: Apache-2.0
"""`tunesmith db-manager --cluster` and `tunesmith suggestion --cluster`: services that ask the
cluster who calls.

Loaded by those commands alone: it needs what the extra `cluster` installs.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tunesmith_controller.identity.access import observation_access, suggestion_guard
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport, NoCluster
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.telemetry.logs import log_structured
from tunesmith_observation import server as observations
from tunesmith_suggestion import server as suggestions

T = TypeVar("T")

EXIT_UNUSABLE = 3
"""As everywhere in this command line: what it needs is not there."""


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """The cluster, the namespace of the installation, and the one with trials if there is one."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = "kubeflow"
    only: str | None = None


def serve_observations(options: observations.ServerOptions, place: ClusterPlace) -> int:
    """The exit status of the observation service."""
    return _with_cluster(
        place,
        lambda transport: observation_access(transport, place.namespace, place.only),
        lambda access: observations.run_server(options, access),
    )


def serve_suggestions(options: suggestions.ServerOptions, place: ClusterPlace) -> int:
    """The exit status of the suggestion service."""
    return _with_cluster(
        place,
        lambda transport: suggestion_guard(transport, place.namespace),
        lambda guard: suggestions.run_server(options, guard=guard),
    )


def _with_cluster(
    place: ClusterPlace,
    made: Callable[[ApiTransport], T],
    run: Callable[[Callable[[], AbstractAsyncContextManager[T]]], int],
) -> int:
    log_structured()
    kubeconfig = str(place.kubeconfig) if place.kubeconfig else None
    try:
        transport = KubernetesTransport.from_config(kubeconfig, place.context)
    except NoCluster as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_UNUSABLE

    @asynccontextmanager
    async def opened() -> AsyncIterator[T]:
        try:
            yield made(transport)
        finally:
            await transport.aclose()

    return run(opened)
