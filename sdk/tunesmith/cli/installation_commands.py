# SPDX-License-Identifier: Apache-2.0
"""What `tunesmith install`, `uninstall` and `doctor` do. Loaded by those commands alone: it needs
what the extra `cluster` installs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import typer
import yaml

from tunesmith.cli.forms import Format
from tunesmith.errors import NotPossible, NotThere, StateUnusable
from tunesmith.installation import examining, installing, removing, taking_over
from tunesmith.installation.cluster_objects import Applied, ClusterObjects
from tunesmith.installation.existing import Choice, installed
from tunesmith.installation.findings import Finding
from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import (
    DATABASE_SECRET,
    Database,
    Installation,
    default_image,
)
from tunesmith.installation.waiting import wait_until_ready
from tunesmith_controller.ports import PortError
from tunesmith_controller.stores.kubernetes_transport import KubernetesTransport, NoCluster
from tunesmith_controller.stores.rest_errors import Denied

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster, and where tunesmith is installed there."""

    kubeconfig: Path | None
    context: str | None
    namespace: str


def print_objects(namespace: str, choice: Choice) -> None:
    """As YAML, of a first installation: no cluster is asked."""
    wanted = _checked(choice, Installation(namespace, image=default_image()))
    print(yaml.safe_dump_all(manifests(wanted), sort_keys=False, width=100), end="")
    if wanted.database is not Database.SQLITE:
        print(
            f"note: the password of the database goes into a Secret that no file holds:\n"
            f"  kubectl create secret generic {DATABASE_SECRET} -n {namespace}"
            " --from-literal=password=...",
            file=sys.stderr,
        )


@dataclass(frozen=True, slots=True)
class Doing:
    """How `install` goes about it. seconds: until all is ready, 0 for not waiting. take_over: stops
    Katib; agreed: without asking."""

    password_file: Path | None = None
    seconds: float = 0.0
    take_over: bool = False
    agreed: bool = False


def install(place: Place, choice: Choice, doing: Doing) -> None:
    """Raises NotPossible, NotThere, StateUnusable."""
    password, seconds = _read(doing.password_file), doing.seconds

    async def work(objects: ClusterObjects) -> None:
        before = await installed(objects, place.namespace)
        wanted = _checked(choice, before or Installation(place.namespace, image=default_image()))
        if doing.take_over:
            await _stop_katib(objects, wanted, password, doing.agreed)
        does = "brings up to date" if before else "installs"
        print(f"{does} tunesmith in namespace {wanted.namespace}: {wanted.told()}", flush=True)
        counts = await installing.install(objects, wanted, password)
        if doing.take_over:
            await taking_over.import_rows(objects, wanted, print)
        print(", ".join(f"{counts[each]} {each}" for each in Applied), flush=True)
        if seconds:
            await wait_until_ready(objects, wanted, seconds, lambda told: print(told, flush=True))
            print(f"tunesmith is ready in namespace {wanted.namespace}")
        print(f"\nnext:\n  kubectl apply -f EXPERIMENT.yaml\n  {_doctor(wanted.namespace)}")

    _on_cluster(place, work)


async def _stop_katib(
    objects: ClusterObjects, wanted: Installation, password: str, agreed: bool
) -> None:
    katib = await taking_over.check_takeable(objects, wanted, password)
    if katib and not agreed and not typer.confirm(f"{taking_over.told(katib, wanted)} Go on?"):
        raise typer.Exit(1)
    await taking_over.stop_katib(objects, wanted, lambda told: print(told, flush=True))


def uninstall(place: Place, everything: bool) -> None:
    """Raises NotThere, StateUnusable."""

    async def work(objects: ClusterObjects) -> None:
        there = await installed(objects, place.namespace)
        # What an earlier try has left is taken away too.
        await removing.uninstall(
            objects, there or Installation(place.namespace), everything=everything
        )
        kept = "" if everything else "; definitions, experiments, volumes and passwords stay"
        print(f"tunesmith is not installed in namespace {place.namespace} any more{kept}")

    _on_cluster(place, work)


def doctor(place: Place, form: Format) -> int:
    """The exit status. Raises StateUnusable where there is no cluster."""
    findings = _on_cluster(place, lambda objects: examining.examine(objects, place.namespace))
    if form is Format.JSON:
        print(json.dumps([asdict(each) for each in findings], indent=1))
    elif form is Format.YAML:
        print(yaml.safe_dump([asdict(each) for each in findings], sort_keys=False), end="")
    else:
        for each in findings:
            _print(each)
    return 1 if any(each.fault for each in findings) else 0


def _print(finding: Finding) -> None:
    told = finding.fault or finding.told
    word = "FAULT" if finding.fault else "ok"
    print(f"{word:<6} {finding.subject}{f': {told}' if told else ''}")
    if finding.next:
        print(f"       next: {finding.next}")


def _checked(choice: Choice, before: Installation) -> Installation:
    """Raises NotPossible."""
    wanted = choice.over(before)
    if wanted.database is Database.EXTERNAL and not wanted.database_url:
        raise NotPossible(
            "nobody has said where the external database is",
            hint="tunesmith install --database external --db-url"
            " postgresql+pg8000://USER@HOST:5432/DATABASE --database-password-file FILE",
        )
    return wanted


def _doctor(namespace: str) -> str:
    return "tunesmith doctor" if namespace == "kubeflow" else f"tunesmith doctor -n {namespace}"


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
    except Denied as error:
        raise StateUnusable(
            f"you may not do this: {error}",
            hint="kubectl auth whoami  # installing takes an administrator of the cluster",
        ) from None
    except PortError as error:
        raise StateUnusable(str(error), hint="kubectl cluster-info") from None
