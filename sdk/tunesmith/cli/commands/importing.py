# SPDX-License-Identifier: Apache-2.0
"""`tunesmith import`: what other programs have kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.completion import complete_context

imports = typer.Typer(
    help="Take over what other programs have kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@imports.command("katib-db", short_help="Rows out of the database of Katib's db-manager.")
def katib_db(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="Katib's database: mysql://root@HOST:3306/katib or"
            " postgresql://katib@HOST:5432/katib.",
        ),
    ],
    *,
    target: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            help="The database of an observation service: sqlite:////PATH/observations.db,"
            " postgresql+pg8000://USER@HOST/DB or mysql+pymysql://USER@HOST/DB.",
        ),
    ],
    password_file: Annotated[
        Path | None, typer.Option(help="Of Katib's database.", metavar="FILE")
    ] = None,
    to_password_file: Annotated[
        Path | None, typer.Option(help="Of the target.", metavar="FILE")
    ] = None,
    trials: Annotated[
        bool,
        typer.Option(
            "--trials-of-cluster",
            help="Give the rows to the cluster's Trials of the same names. Without, rows are found"
            " by a trial's name alone, as Katib's clients ask.",
        ),
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="Trials of that namespace alone.", metavar="NAMESPACE")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Of the cluster (default: the pod's own, or kubectl's).")
    ] = None,
    context: Annotated[
        str | None, typer.Option(autocompletion=complete_context, help="In the kubeconfig.")
    ] = None,
) -> None:
    """Copy all rows of Katib's database. Katib's is only read. Doing it again, or after it was
    killed, copies what is missing. Exit status 3 when a database or the cluster cannot be used.

    Example:  tunesmith import katib-db mysql://root@katib-mysql:3306/katib --password-file pw
    --to postgresql+pg8000://tunesmith@tunesmith-postgres:5432/tunesmith --to-password-file pw2
    """
    try:
        from tunesmith.cli import import_command  # noqa: PLC0415
    except ImportError as error:
        print(f"error: {error}\ntry:   pip install 'tunesmith[cluster]'", file=sys.stderr)
        raise typer.Exit(3) from None
    import_command.katib_rows(
        import_command.Databases(source, password_file, target, to_password_file),
        import_command.Cluster(kubeconfig, context, only) if trials or only else None,
    )
