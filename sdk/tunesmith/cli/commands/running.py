# SPDX-License-Identifier: Apache-2.0
"""Verbs that bring an experiment in and follow it: run, create, watch, validate."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.cli.arguments import Cpus, ExperimentName, File, Namespace, RuntimeChoice
from tunesmith.cli.forms import Runtime


def run(
    file: File,
    *,
    namespace: Namespace = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete an existing experiment of this name first.")
    ] = False,
    cpus: Cpus = None,
    runtime: RuntimeChoice = Runtime.PROCESS,
) -> None:
    """Run an experiment to its end, or continue one that is unfinished.

    A finished experiment prints its result; a changed file is refused with the difference
    (--fresh starts anew). Ctrl-C asks whether to stop the trials or to leave them running; without
    a terminal, SIGINT and SIGTERM stop them. Stopped or killed, the same command continues.

    Exit status: 0 the experiment succeeded, 1 it failed, 2 the file or its name is wrong, 3 the
    state directory cannot be used, 130/143 interrupted.

    Example:  tunesmith run examples/digits/tpe.yaml
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    raise typer.Exit(verbs.run(file, namespace, fresh=fresh, cpus=cpus, runtime=runtime))


def create(file: File, *, namespace: Namespace = None) -> None:
    """Store an experiment without running it: `tunesmith serve` or `tunesmith run` works on it.

    Example:  tunesmith create examples/digits/tpe.yaml
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.create(file, namespace)


def watch(experiment: ExperimentName, *, namespace: Namespace = None) -> None:
    """Follow an experiment until it ends, without controlling it; Ctrl-C changes nothing.

    Exit status: 0 the experiment succeeded, 1 it failed, 130 interrupted.

    Example:  tunesmith watch digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    raise typer.Exit(verbs.watch(experiment, namespace))


def validate(file: File, *, namespace: Namespace = None) -> None:
    """Check an experiment file: every fault with its line, exit status 2 when there is one.

    Example:  tunesmith validate experiment.yaml
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.validate(file, namespace)
