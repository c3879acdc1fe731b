# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.completion import complete_experiment, complete_name
from tunesmith.cli.forms import Format, Runtime

Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace (default: TUNESMITH_NAMESPACE).")
]
ExperimentName = Annotated[str, typer.Argument(autocompletion=complete_experiment)]
TrialName = Annotated[
    str,
    typer.Argument(
        autocompletion=complete_name,
        help="A trial's name, the beginning of one, or EXPERIMENT/NUMBER.",
    ),
]
AnyName = Annotated[
    str, typer.Argument(autocompletion=complete_name, help="An experiment or a trial.")
]
File = Annotated[
    Path,
    typer.Argument(
        help="An Experiment as YAML or JSON, with its ConfigMaps; - for standard input."
    ),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="Form of the output.")]

Cpus = Annotated[
    float | None, typer.Option(min=0, help="CPUs that trials may use together (default: all).")
]
RuntimeChoice = Annotated[
    Runtime,
    typer.Option(
        "--runtime", help="process: commands run as they are; podman, docker: in their images."
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the effect.")]

Listen = Annotated[str, typer.Option(help="unix:/path/to.sock or host:port.", metavar="ADDR")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Plaintext TCP; loopback addresses only.")
]
TlsFile = Annotated[Path | None, typer.Option(help="PEM file.")]
