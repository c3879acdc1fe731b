# SPDX-License-Identifier: Apache-2.0
"""`tunesmith certify`: tries a suggestion service from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.arguments import Output
from tunesmith.cli.completion import complete_algorithm, complete_check
from tunesmith.cli.forms import Format


def certify(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Or unix:/path/to.sock.")],
    *,
    algorithm: Annotated[
        str,
        typer.Option(autocompletion=complete_algorithm, help="The algorithmName to ask for."),
    ],
    setting: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An algorithm setting; may be given repeatedly."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An Experiment whose search space is the ordinary one to try."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.01, metavar="SECONDS", help="Deadline of a call, as Katib's.")
    ] = 60.0,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller batches and histories.")] = False,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK",
            autocompletion=complete_check,
            help="Leave out this check; may be given repeatedly.",
        ),
    ] = None,
    restart_command: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Restarts the service, such as 'docker restart tpe'; runs without a shell."
            " Without it a restart is simulated by a new experiment with the same trials.",
        ),
    ] = "",
    one_experiment: Annotated[
        bool,
        typer.Option(
            "--one-experiment",
            help="The service serves one experiment a process, as Katib's images do: it is"
            " restarted before each (needs --restart-command).",
        ),
    ] = False,
    form: Output = Format.TABLE,
) -> None:
    """Try a service of Katib's api.v1.beta1.Suggestion from outside: what it makes of every kind of
    parameter, of batches, seeds, failed, unknown and very many trials, of a restart. Exit status 0
    when nothing failed, 1 when something did, 3 when nobody answers.

    Example:  tunesmith certify 127.0.0.1:6789 --algorithm tpe --setting n_startup_trials=5
    """
    from tunesmith.cli import certification  # noqa: PLC0415

    if one_experiment and not restart_command:
        raise typer.BadParameter("--one-experiment needs --restart-command")
    wanted = certification.Wanted(
        address=address,
        algorithm=algorithm,
        settings=tuple(setting or ()),
        space=space,
        timeout_s=timeout,
        quick=quick,
        skip=tuple(skip or ()),
        restart_command=restart_command,
        one_experiment=one_experiment,
    )
    raise typer.Exit(certification.certify(wanted, form))
