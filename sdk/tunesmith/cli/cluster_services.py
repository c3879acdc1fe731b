# SPDX-License-Identifier: Apache-2.0
"""`tunesmith controller --cluster`: one replica of a cluster's controller, until told to end.

Loaded by that command alone: it needs what the extra `cluster` installs.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.signals import handle_signals
from tunesmith_controller.admission.pods import InjectionSettings
from tunesmith_controller.cluster import (
    ClusterSettings,
    LeadershipLost,
    OwnCertificates,
    control_cluster,
)
from tunesmith_controller.ports import PortError
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport, NoCluster
from tunesmith_controller.telemetry.logs import log_structured

EXIT_UNUSABLE = 3
"""As everywhere in this command line: what it needs is not there."""
EXIT_LOST = 4
"""The lease went to another replica: start over."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What the command line says; empty texts and None mean the default."""

    kubeconfig: Path | None
    context: str | None
    namespace: str
    only: str | None
    suggestions: str
    observations: str
    ca_file: Path | None
    token_file: Path | None
    image: str
    replica: str
    ports: tuple[int, int]
    certificates: str
    webhook_port: int | None


def control(options: ClusterOptions) -> int:
    """The exit status of the command."""
    log_structured()
    return asyncio.run(_until_told(options))


async def _until_told(options: ClusterOptions) -> int:
    try:
        kubeconfig = str(options.kubeconfig) if options.kubeconfig else None
        transport = KubernetesTransport.from_config(kubeconfig, options.context)
        settings = settings_of(options)
    except (NoCluster, OSError) as error:
        return _unusable(str(error))
    ended = asyncio.Event()
    handle_signals(asyncio.get_running_loop(), lambda number: ended.set())
    controlling = asyncio.ensure_future(control_cluster(settings, transport))
    waiting = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait([controlling, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not controlling.done():
            return 0
        await controlling
    except LeadershipLost as error:
        _unusable(str(error))
        return EXIT_LOST
    except PortError as error:
        return _unusable(str(error))
    finally:
        controlling.cancel()
        waiting.cancel()
        await asyncio.gather(controlling, waiting, return_exceptions=True)
        await transport.aclose()
    return 0


def settings_of(options: ClusterOptions) -> ClusterSettings:
    """Raises OSError for a file that cannot be read."""
    defaults = ClusterSettings()
    where = options.namespace
    if options.ca_file is not None:
        options.ca_file.read_bytes()
    observations = options.observations or f"tunesmith-observation.{where}:6790"
    return ClusterSettings(
        namespace=where,
        only=options.only,
        suggestions=options.suggestions or f"tunesmith-suggestion.{where}:6789",
        observations=observations,
        certificates=_certificates(options.certificates),
        ca_file=options.ca_file,
        token_file=options.token_file,
        injection=InjectionSettings(options.image, observations) if options.image else None,
        webhook_port=options.webhook_port,
        probe_host=defaults.probe_host,
        probe_ports=options.ports,
        replica=options.replica or socket.gethostname(),
    )


def _certificates(said: str) -> Path | OwnCertificates | None:
    if said == "own":
        return OwnCertificates()
    return Path(said) if said else None


def _unusable(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return EXIT_UNUSABLE
