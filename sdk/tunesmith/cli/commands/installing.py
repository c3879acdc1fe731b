# SPDX-License-Identifier: Apache-2.0
"""`tunesmith install`, `uninstall` and `doctor`: an installation on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from tunesmith.cli.arguments import Output
from tunesmith.cli.forms import Format
from tunesmith.installation.options import Database

Kubeconfig = Annotated[Path | None, typer.Option(help="Of the cluster (default: kubectl's).")]
KubeContext = Annotated[str | None, typer.Option(help="In the kubeconfig.")]
Where = Annotated[str, typer.Option("--namespace", "-n", help="Where tunesmith is installed.")]
Only = Annotated[
    str | None,
    typer.Option(help="Look after this one namespace, with rights in no other (default: all)."),
]
DatabaseChoice = Annotated[
    Database,
    typer.Option(help="Where rows are kept: a server that is installed too, one of yours, a file."),
]


def install(
    *,
    namespace: Where = "kubeflow",
    only: Only = None,
    database: DatabaseChoice = Database.POSTGRES,
    db_url: Annotated[
        str,
        typer.Option(
            help="With --database external: postgresql+pg8000://USER@HOST/DB or"
            " mysql+pymysql://USER@HOST/DB, without the password."
        ),
    ] = "",
    database_password_file: Annotated[
        Path | None,
        typer.Option(help="Its password (default: the one that is there, or a new one)."),
    ] = None,
    image: Annotated[str, typer.Option(help="Of tunesmith (default: this version's).")] = "",
    database_image: Annotated[str, typer.Option(help="Of the database server.")] = "",
    pull_policy: Annotated[str, typer.Option(help="Of all images.")] = "IfNotPresent",
    cert_manager: Annotated[
        bool, typer.Option("--cert-manager", help="Let cert-manager make the certificates.")
    ] = False,
    no_webhooks: Annotated[
        bool,
        typer.Option(
            "--no-webhooks",
            help="Let the API server ask nothing: collectors are put into the templates of known"
            " kinds, and Experiments are checked when the controller sees them.",
        ),
    ] = False,
    no_katib_clients: Annotated[
        bool,
        typer.Option(
            "--no-katib-clients",
            help="Do not serve Katib's own clients (katib-db-manager:6789, plain text).",
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--print", help="Print the objects as YAML and change nothing.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Until all is ready; 0 for not at all.")
    ] = 300.0,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Install tunesmith on a cluster, or bring an installation up to date. Doing it again is
    harmless. Exit status 2 beside a running Katib, 3 when the cluster cannot be used or the
    installation does not become ready.

    Example:  tunesmith install --namespace kubeflow

    Example:  tunesmith install --database sqlite --print | kubectl apply -f -
    """
    from tunesmith.installation.options import Installation, default_image  # noqa: PLC0415

    if (database is Database.EXTERNAL) != bool(db_url):
        raise typer.BadParameter("--database external and --db-url go together")
    wanted = Installation(
        namespace=namespace,
        only=only,
        image=image or default_image(),
        pull_policy=pull_policy,
        database=database,
        database_url=db_url,
        database_image=database_image,
        webhooks=not no_webhooks,
        katib_listener=not no_katib_clients,
        cert_manager=cert_manager,
    )
    commands = _loaded()
    if show:
        commands.print_objects(wanted)
        return
    place = commands.Place(kubeconfig, context)
    commands.install(place, wanted, database_password_file, wait)


def uninstall(
    *,
    namespace: Where = "kubeflow",
    only: Only = None,
    database: DatabaseChoice = Database.POSTGRES,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also definitions, and with them all Experiments, and volumes."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Take tunesmith off a cluster. Experiments, rows and volumes stay, unless --all.

    Example:  tunesmith uninstall -n kubeflow
    """
    from tunesmith.installation.options import Installation  # noqa: PLC0415

    lost = "tunesmith, ALL Experiments and their rows" if everything else "tunesmith"
    if not yes and not typer.confirm(f"Take {lost} off the cluster (namespace {namespace})?"):
        raise typer.Exit(1)
    wanted = Installation(namespace=namespace, only=only, database=database)
    commands = _loaded()
    commands.uninstall(commands.Place(kubeconfig, context), wanted, everything)


def doctor(
    *,
    namespace: Where = "kubeflow",
    only: Only = None,
    form: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Look an installation over: definitions, rights, services, certificates, webhooks, versions.
    Exit status 0 when all is well, 1 when something is not, 3 when there is no cluster.

    Example:  tunesmith doctor -n kubeflow
    """
    from tunesmith.installation.options import Installation  # noqa: PLC0415

    commands = _loaded()
    wanted = Installation(namespace=namespace, only=only)
    raise typer.Exit(commands.doctor(commands.Place(kubeconfig, context), wanted, form))


def _loaded() -> ModuleType:
    """Ends the command where what it needs is not installed."""
    try:
        from tunesmith.cli import installation_commands  # noqa: PLC0415
    except ImportError as error:
        print(f"error: {error}\ntry:   pip install 'tunesmith[cluster]'", file=sys.stderr)
        raise typer.Exit(3) from None
    return installation_commands
