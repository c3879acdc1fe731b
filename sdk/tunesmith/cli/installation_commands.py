# SPDX-License-Identifier: Apache-2.0
"""What `tunesmith install`, `uninstall` and `doctor` do. Loaded by those commands alone: it needs
what the extra `cluster` installs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from tunesmith.cli.forms import Format
from tunesmith.errors import NotThere, StateUnusable
from tunesmith.installation import installing
from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.examining import Finding, examine
from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import Installation
from tunesmith_controller.ports import PortError
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport, NoCluster

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster."""

    kubeconfig: Path | None
    context: str | None


def print_objects(wanted: Installation) -> None:
    print(yaml.safe_dump_all(manifests(wanted), sort_keys=False, width=100), end="")


def install(place: Place, wanted: Installation, password_file: Path | None, seconds: float) -> None:
    """Raises NotPossible, NotThere, StateUnusable."""
    password = _read(password_file)

    async def work(objects: ClusterObjects) -> None:
        await installing.install(objects, wanted, password)
        if seconds:
            await installing.wait_until_ready(objects, wanted, seconds)
            print(f"tunesmith is installed in namespace {wanted.namespace}")
        print("next: kubectl apply -f EXPERIMENT.yaml; kubectl get experiments -A")

    _on_cluster(place, work)


def uninstall(place: Place, wanted: Installation, everything: bool) -> None:
    """Raises StateUnusable."""
    _on_cluster(place, lambda objects: installing.uninstall(objects, wanted, everything=everything))


def doctor(place: Place, wanted: Installation, form: Format) -> int:
    """The exit status. Raises StateUnusable where there is no cluster."""
    findings = _on_cluster(place, lambda objects: examine(objects, wanted))
    if form is Format.JSON:
        print(json.dumps([asdict(each) for each in findings], indent=1))
    else:
        for each in findings:
            _print(each)
    return 1 if any(each.fault for each in findings) else 0


def _print(finding: Finding) -> None:
    if not finding.fault:
        print(
            f"ok     {finding.subject}: {finding.told}"
            if finding.told
            else f"ok     {finding.subject}"
        )
        return
    print(f"FAULT  {finding.subject}: {finding.fault}")
    if finding.next:
        print(f"       next: {finding.next}")


def _read(password_file: Path | None) -> str:
    if password_file is None:
        return ""
    try:
        return password_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotThere("file", str(password_file), why=error.strerror or "") from None


def _on_cluster(place: Place, work: Callable[[ClusterObjects], Awaitable[T]]) -> T:
    async def run() -> T:
        kubeconfig = str(place.kubeconfig) if place.kubeconfig else None
        transport = KubernetesTransport.from_config(kubeconfig, place.context)
        try:
            return await work(ClusterObjects(transport))
        finally:
            await transport.aclose()

    try:
        return asyncio.run(run())
    except NoCluster as error:
        raise StateUnusable(str(error), hint="kubectl config get-contexts") from None
    except PortError as error:
        raise StateUnusable(
            f"the cluster's API refuses: {error}", hint="kubectl auth whoami"
        ) from None
