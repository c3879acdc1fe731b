# SPDX-License-Identifier: Apache-2.0
"""Services: the controller with and without its API, and the parts that can be run by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from tunesmith.cli.arguments import Cpus, Insecure, Listen, RuntimeChoice, TlsFile
from tunesmith.cli.forms import Runtime

AskCluster = Annotated[
    bool, typer.Option("--cluster", help="Ask the cluster's API server who calls.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Of the cluster (default: the pod's own, or kubectl's).")
]
KubeContext = Annotated[str | None, typer.Option(help="In the kubeconfig.")]
Installed = Annotated[str, typer.Option(help="Where tunesmith is installed.")]


def serve(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1 (default: a free one).")
    ] = 0,
    runtime: RuntimeChoice = Runtime.PROCESS,
    cpus: Cpus = None,
    db_manager: Annotated[
        str,
        typer.Option(
            help="Also serve Katib's DBManager there, such as 127.0.0.1:6789, for clients that"
            " report or read metrics by trial name."
        ),
    ] = "",
) -> None:
    """Run the controller and the Kubernetes-shaped API of this machine: Katib's Python client
    works with the kubeconfig that it writes. Ctrl-C ends it; trials run on, and the next `serve`
    or `run` takes them up.

    Example:  tunesmith serve --port 8001
    """
    from tunesmith.cli.services import serve_machine  # noqa: PLC0415

    raise typer.Exit(serve_machine(port=port, runtime=runtime, cpus=cpus, db_manager=db_manager))


def controller(
    *,
    runtime: RuntimeChoice = Runtime.PROCESS,
    cpus: Cpus = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Control a cluster's experiments, not this machine's.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Of the cluster (default: the pod's own, or kubectl's).")
    ] = None,
    context: Annotated[str | None, typer.Option(help="In the kubeconfig.")] = None,
    namespace: Annotated[str, typer.Option(help="Where tunesmith is installed.")] = "kubeflow",
    only: Annotated[
        str | None, typer.Option(help="The one namespace to look after (default: all).")
    ] = None,
    suggestions: Annotated[
        str, typer.Option(help="Of the suggestion service.", metavar="ADDR")
    ] = "",
    observations: Annotated[
        str, typer.Option(help="Of the observation service.", metavar="ADDR")
    ] = "",
    ca_file: Annotated[Path | None, typer.Option(help="CA of both services, PEM.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Bearer token for both.")] = None,
    image: Annotated[
        str, typer.Option(help="Of the metrics collector in trial pods; none is collected without.")
    ] = "",
    replica: Annotated[str, typer.Option(help="Name in the election (default: hostname).")] = "",
    metrics_port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    health_port: Annotated[int, typer.Option(min=0, max=65535)] = 18080,
    certificates: Annotated[
        str,
        typer.Option(
            help="`own`: be the installation's authority; a folder: use its tls.crt, tls.key and "
            "ca.crt (default: plain text, or --ca-file).",
            metavar="own|DIR",
        ),
    ] = "",
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Serve admission (needs --certificates).")
    ] = False,
    webhook_port: Annotated[int, typer.Option(min=0, max=65535)] = 8443,
) -> None:
    """Run the controller of this machine alone, without an API; or one of a cluster's.

    Example:  tunesmith controller --cpus 4

    Example:  tunesmith controller --cluster --namespace kubeflow --image REGISTRY/tunesmith:1.0
    """
    if webhooks and not certificates:
        raise typer.BadParameter("webhooks are served over TLS: give --certificates own")
    if not cluster:
        from tunesmith.cli.services import serve_machine  # noqa: PLC0415

        raise typer.Exit(serve_machine(port=None, runtime=runtime, cpus=cpus))
    try:
        from tunesmith.cli.cluster_services import ClusterOptions, control  # noqa: PLC0415
    except ImportError as error:
        print(f"error: {error}\ntry:   pip install 'tunesmith[cluster]'", file=sys.stderr)
        raise typer.Exit(3) from None

    options = ClusterOptions(
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        only=only,
        suggestions=suggestions,
        observations=observations,
        ca_file=ca_file,
        token_file=token_file,
        image=image,
        replica=replica,
        ports=(metrics_port, health_port),
        certificates=certificates,
        webhook_port=webhook_port if webhooks else None,
    )
    raise typer.Exit(control(options))


def suggestion(
    *,
    listen: Listen,
    insecure: Insecure = False,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    cluster: AskCluster = False,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    namespace: Installed = "kubeflow",
) -> None:
    """Serve the algorithms over gRPC (Katib's api.v1.beta1.Suggestion and tunesmith's own). With
    --cluster only its controller may ask.

    Example:  tunesmith suggestion --listen 127.0.0.1:6789 --insecure
    """
    if not cluster:
        from tunesmith.cli.services import serve_suggestions  # noqa: PLC0415

        raise typer.Exit(serve_suggestions(listen, insecure, tls_cert, tls_key))
    from tunesmith_suggestion.server import ServerOptions  # noqa: PLC0415

    access = _cluster_access()
    options = ServerOptions(listen, insecure, tls_cert, tls_key)
    place = access.ClusterPlace(kubeconfig, context, namespace)
    raise typer.Exit(access.serve_suggestions(options, place))


def earlystopping(
    *,
    listen: Listen,
    insecure: Insecure = False,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    api: Annotated[
        str, typer.Option(help="Kubernetes-shaped API where stopped trials are marked.")
    ] = "",
    namespace: Annotated[str, typer.Option(help="Of the trials behind --api.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="Bearer token for --api.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="CA of --api, PEM.")] = None,
) -> None:
    """Serve the early stopping rules over gRPC (Katib's api.v1.beta1.EarlyStopping).

    Example:  tunesmith earlystopping --listen 127.0.0.1:6788 --insecure
    """
    from tunesmith.cli.services import serve_stopping_rules  # noqa: PLC0415

    status = serve_stopping_rules(
        listen=listen,
        insecure=insecure,
        tls_cert=tls_cert,
        tls_key=tls_key,
        api=api,
        namespace=namespace,
        token_file=token_file,
        ca_file=ca_file,
    )
    raise typer.Exit(status)


def collector(context: typer.Context) -> None:
    """Follow one file of a trial's attempt and report its metrics to an observation service, until
    the program has ended and all is stored. --help lists its options.

    Example:  tunesmith collector --sink unix:/run/o.sock --trial-uid UID --path out.log
    --metric loss --pid 4242
    """
    from tunesmith.cli.services import collect  # noqa: PLC0415

    raise typer.Exit(collect(context.args))


def db_manager(
    *,
    listen: Listen,
    db: Annotated[str, typer.Option(help="SQLAlchemy URL, such as sqlite:////path/to.db.")],
    insecure: Insecure = False,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    db_password_file: Annotated[
        Path | None, typer.Option(help="The password that goes into the URL.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="Folder that takes reports while a database server is away."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="To a database server, at most.")] = 12,
    katib_listen: Annotated[
        str,
        typer.Option(
            help="With --cluster: also serve Katib's clients there, in plain text; pods are known"
            " by their address.",
            metavar="ADDR",
        ),
    ] = "",
    katib_read: Annotated[
        str,
        typer.Option(
            help="Who reads there: any, as with Katib, or trials, each its own.",
            metavar="any|trials",
        ),
    ] = "any",
    cluster: AskCluster = False,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    namespace: Installed = "kubeflow",
    only: Annotated[
        str | None, typer.Option(help="The one namespace with trials (default: all).")
    ] = None,
) -> None:
    """Serve the observation log over gRPC (Katib's api.v1.beta1.DBManager and tunesmith's own).
    With --cluster each trial may report its own rows, and the controller everything.

    Example:  tunesmith db-manager --listen 127.0.0.1:6790 --db sqlite:////tmp/rows.db --insecure
    """
    from tunesmith_observation.server import ServerOptions, run_server  # noqa: PLC0415

    options = ServerOptions(
        listen=listen,
        db=db,
        insecure=insecure,
        tls_cert=tls_cert,
        tls_key=tls_key,
        db_password_file=db_password_file,
        journal=journal,
        connections=connections,
        katib_listen=katib_listen,
        katib_read=katib_read,
    )
    if not cluster:
        raise typer.Exit(run_server(options))
    access = _cluster_access()
    place = access.ClusterPlace(kubeconfig, context, namespace, only)
    raise typer.Exit(access.serve_observations(options, place))


def _cluster_access() -> ModuleType:
    """Ends the command where what it needs is not installed."""
    try:
        from tunesmith.cli import cluster_access  # noqa: PLC0415
    except ImportError as error:
        print(f"error: {error}\ntry:   pip install 'tunesmith[cluster]'", file=sys.stderr)
        raise typer.Exit(3) from None
    return cluster_access
