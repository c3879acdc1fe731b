# SPDX-License-Identifier: Apache-2.0
"""Verbs that only look: ls, show, trials, best, logs, why, algorithms."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tunesmith.cli.arguments import AnyName, ExperimentName, Namespace, Output, TrialName
from tunesmith.cli.completion import complete_algorithm
from tunesmith.cli.forms import BestFormat, Format


class Order(StrEnum):
    """Orders of `trials`."""

    ORDINAL = "ordinal"
    OBJECTIVE = "objective"


def list_experiments(
    *,
    namespace: Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Experiments of all namespaces.")
    ] = False,
    form: Output = Format.TABLE,
) -> None:
    """List experiments.

    Example:  tunesmith ls -A
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.list_experiments(namespace, everywhere=all_namespaces, form=form)


def show(
    experiment: ExperimentName, *, namespace: Namespace = None, form: Output = Format.TABLE
) -> None:
    """Show one experiment: state, counts, best trial.

    Example:  tunesmith show digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.show(experiment, namespace, form)


def trials(
    experiment: ExperimentName,
    *,
    namespace: Namespace = None,
    form: Output = Format.TABLE,
    sort: Annotated[
        Order | None,
        typer.Option(help="objective has the best first (default: with --top), else ordinal."),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
) -> None:
    """List the trials of an experiment with their parameters and metrics.

    On a terminal the table is cut to its width; -o wide, a pipe or a file get all of it.

    Example:  tunesmith trials digits-tpe --top 5
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    best_first = top is not None if sort is None else sort is Order.OBJECTIVE
    verbs.trials(experiment, namespace, form, best_first=best_first, top=top)


def best(
    experiment: ExperimentName,
    *,
    namespace: Namespace = None,
    form: Annotated[
        BestFormat, typer.Option("-o", "--output", help="Form of the output.")
    ] = BestFormat.TABLE,
) -> None:
    """Show the best trial; -o args or env give its parameters in a form to paste.

    Example:  python train.py $(tunesmith best digits-tpe -o args)
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.best(experiment, namespace, form)


def logs(
    trial: TrialName,
    *,
    namespace: Namespace = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait for more until the trial ends.")
    ] = False,
) -> None:
    """Print what a trial printed.

    Example:  tunesmith logs digits-tpe/3 -f
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.logs(trial, namespace, follow=follow)


def why(name: AnyName, *, namespace: Namespace = None) -> None:
    """Explain why an experiment or a trial is in its state, and what to do next.

    Example:  tunesmith why digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.why(name, namespace)


def algorithms(
    name: Annotated[
        str | None,
        typer.Argument(autocompletion=complete_algorithm, help="Shows the settings of this one."),
    ] = None,
    *,
    form: Output = Format.TABLE,
) -> None:
    """List the algorithms and early stopping rules, or the settings of one: what each may be, its
    default, what it does.

    Example:  tunesmith algorithms tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.algorithms(name, form)
