# SPDX-License-Identifier: Apache-2.0
"""What `tunesmith import katib-db` does."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import NotPossible, StateUnusable
from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_observation.database import Access, parsed_url
from tunesmith_observation.katib_import import Imported, KnownTrial, import_rows, katib_url
from tunesmith_observation.sql import SqlObservationLog

_AGAIN = "do the same again: what has arrived is not copied twice"
_TOLD_NAMES = 5


@dataclass(frozen=True, slots=True)
class Databases:
    source: str
    password_file: Path | None
    target: str
    to_password_file: Path | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """only: the one namespace whose Trials are meant, None for all."""

    kubeconfig: Path | None
    context: str | None
    only: str | None


def katib_rows(databases: Databases, cluster: Cluster | None) -> None:
    """Raises NotPossible, StateUnusable."""
    try:
        source = Access(katib_url(databases.source), password_file=databases.password_file)
        target = Access(parsed_url(databases.target), password_file=databases.to_password_file)
        done = asyncio.run(_copied(source, target, cluster))
    except Invalid as error:
        raise NotPossible(str(error), hint="tunesmith import katib-db --help") from None
    except Unavailable as error:
        raise StateUnusable(str(error), hint=_AGAIN) from None
    _tell_end(done)


async def _copied(source: Access, target: Access, cluster: Cluster | None) -> Imported:
    trials = await _trials_of(cluster) if cluster else {}
    log = await asyncio.to_thread(SqlObservationLog.open, target)
    try:
        return await import_rows(source, log, trials, _tell)
    finally:
        await log.aclose()


async def _trials_of(cluster: Cluster) -> dict[str, KnownTrial]:
    """By name; of a name in several namespaces none, since Katib's rows name no namespace. Raises
    StateUnusable."""
    from tunesmith_controller.ports import PortError  # noqa: PLC0415
    from tunesmith_controller.stores.kubernetes_transport import (  # noqa: PLC0415
        KubernetesTransport,
        NoCluster,
    )
    from tunesmith_controller.stores.rest import RestStore  # noqa: PLC0415

    try:
        config = str(cluster.kubeconfig) if cluster.kubeconfig else None
        transport = KubernetesTransport.from_config(config, cluster.context)
    except NoCluster as error:
        raise StateUnusable(str(error), hint="kubectl config get-contexts") from None
    try:
        listed = (await RestStore(transport).list("Trial", namespace=cluster.only)).items
    except PortError as error:
        raise StateUnusable(f"trials cannot be listed: {error}", hint="tunesmith doctor") from None
    finally:
        await transport.aclose()
    found: dict[str, KnownTrial] = {}
    twice = set()
    for metadata in (each["metadata"] for each in listed):
        if metadata["name"] in found:
            twice.add(metadata["name"])
        found[metadata["name"]] = KnownTrial(metadata["uid"], metadata["namespace"])
    return {name: trial for name, trial in found.items() if name not in twice}


def _tell(done: Imported) -> None:
    share = 100 * done.rows // max(done.of, 1)
    line = f"{done.rows:,} of {done.of:,} rows ({share} %), {len(done.trials):,} trials"
    end = "\r" if sys.stderr.isatty() else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def _tell_end(done: Imported) -> None:
    print(f"{done.rows:,} rows of {len(done.trials):,} trials: {done.new:,} copied")
    if done.unknown and len(done.unknown) < len(done.trials):
        print(
            f"{len(done.unknown):,} of these trials exist no more (or in several namespaces): their"
            " rows are kept by name"
        )
    for name, why in list(done.left_out.items())[:_TOLD_NAMES]:
        print(f"left out: rows of {name}: {why}", file=sys.stderr)
    if len(done.left_out) > _TOLD_NAMES:
        print(f"left out: {len(done.left_out) - _TOLD_NAMES} further trials", file=sys.stderr)
