# SPDX-License-Identifier: Apache-2.0
"""`tunesmith install`, `uninstall` and `doctor`: an installation on a cluster."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from tunesmith.cli.arguments import Output
from tunesmith.cli.completion import complete_context
from tunesmith.cli.forms import Format
from tunesmith.installation.options import Database


class PullPolicy(StrEnum):
    """Kubernetes's."""

    IF_NOT_PRESENT = "IfNotPresent"
    ALWAYS = "Always"
    NEVER = "Never"


Kubeconfig = Annotated[Path | None, typer.Option(help="Of the cluster (default: kubectl's).")]
KubeContext = Annotated[
    str | None, typer.Option(autocompletion=complete_context, help="In the kubeconfig.")
]
Where = Annotated[str, typer.Option("--namespace", "-n", help="Where tunesmith is installed.")]


def install(
    *,
    namespace: Where = "kubeflow",
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE",
            help="Look after this one namespace, with rights in no other (default: all).",
        ),
    ] = None,
    database: Annotated[
        Database | None,
        typer.Option(
            help="Where rows are kept: a server that is installed too (postgres, mysql), one of"
            " yours, or a file for a small installation (default: postgres)."
        ),
    ] = None,
    db_url: Annotated[
        str | None,
        typer.Option(
            help="With --database external: postgresql+pg8000://USER@HOST/DB or"
            " mysql+pymysql://USER@HOST/DB, without the password."
        ),
    ] = None,
    database_password_file: Annotated[
        Path | None,
        typer.Option(help="Its password (default: the one that is there, or a new one)."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Of tunesmith (default: this version's).")
    ] = None,
    database_image: Annotated[str | None, typer.Option(help="Of the database server.")] = None,
    pull_policy: Annotated[
        PullPolicy | None, typer.Option(help="Of all images (default: IfNotPresent).")
    ] = None,
    cert_manager: Annotated[
        bool | None,
        typer.Option(
            "--cert-manager/--no-cert-manager",
            help="Who makes certificates (default: the controller).",
        ),
    ] = None,
    webhooks: Annotated[
        bool | None,
        typer.Option(
            "--webhooks/--no-webhooks",
            help="Without, the API server asks nothing: collectors are put into the templates of"
            " known kinds, and Experiments are checked when the controller sees them.",
        ),
    ] = None,
    katib_clients: Annotated[
        bool | None,
        typer.Option(
            "--katib-clients/--no-katib-clients",
            help="Serve Katib's own clients at katib-db-manager:6789, in plain text (default:"
            " yes).",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the objects as YAML and change nothing.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Until all is ready; 0 for not at all.")
    ] = 300.0,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Stop the Katib of this cluster and go on with its experiments: nothing that has"
            " finished runs again. Its rows are copied by a Job.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take over without asking.")] = False,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Install tunesmith on a cluster, or bring an installation up to date: what is not said stays
    as it is. Doing it again is harmless. Exit status 2 beside a running Katib, 3 when the cluster
    cannot be used or the installation does not become ready.

    Example:  tunesmith install --namespace kubeflow

    Example:  tunesmith install --database sqlite --print | kubectl apply -f -
    """
    if db_url and "@" in db_url and ":" in db_url.partition("://")[2].partition("@")[0]:
        raise typer.BadParameter("the password does not belong into it: --database-password-file")
    if db_url and database is None:
        database = Database.EXTERNAL
    if db_url and database is not Database.EXTERNAL:
        raise typer.BadParameter("--db-url goes with --database external")
    commands = _loaded()
    choice = commands.Choice(
        image=image,
        pull_policy=pull_policy.value if pull_policy else None,
        only=only,
        database=database,
        database_url=db_url,
        database_image=database_image,
        webhooks=webhooks,
        katib_listener=katib_clients,
        cert_manager=cert_manager,
    )
    if show:
        commands.print_objects(namespace, choice)
        return
    place = commands.Place(kubeconfig, context, namespace)
    commands.install(place, choice, commands.Doing(database_password_file, wait, take_over, yes))


def uninstall(
    *,
    namespace: Where = "kubeflow",
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also definitions, and with them all Experiments, volumes with all rows, and"
            " passwords.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Take tunesmith off a cluster. Experiments, rows, volumes and passwords stay, unless --all.

    Example:  tunesmith uninstall -n kubeflow
    """
    lost = "tunesmith, ALL Experiments and their rows" if everything else "tunesmith"
    if not yes and not typer.confirm(f"Take {lost} off the cluster (namespace {namespace})?"):
        raise typer.Exit(1)
    commands = _loaded()
    commands.uninstall(commands.Place(kubeconfig, context, namespace), everything)


def doctor(
    *,
    namespace: Where = "kubeflow",
    form: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Look an installation over: definitions, rights, services, certificates, webhooks, versions.
    Exit status 0 when all is well, 1 when something is not, 3 when there is no cluster.

    Example:  tunesmith doctor -n kubeflow
    """
    commands = _loaded()
    raise typer.Exit(commands.doctor(commands.Place(kubeconfig, context, namespace), form))


def _loaded() -> ModuleType:
    """Ends the command where what it needs is not installed."""
    try:
        from tunesmith.cli import installation_commands  # noqa: PLC0415
    except ImportError as error:
        print(f"error: {error}\ntry:   pip install 'tunesmith[cluster]'", file=sys.stderr)
        raise typer.Exit(3) from None
    return installation_commands
