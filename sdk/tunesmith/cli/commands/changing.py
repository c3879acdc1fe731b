# SPDX-License-Identifier: Apache-2.0
"""Verbs that change an experiment: pause, resume, stop, extend, enqueue, delete. Each changes the
stored object; the controller that runs (serve, run, controller) carries it out."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.cli.arguments import ExperimentName, Namespace, NoWait
from tunesmith.cli.completion import complete_assignment


def pause(
    experiment: ExperimentName, *, namespace: Namespace = None, no_wait: NoWait = False
) -> None:
    """Interrupt the trials of an experiment; `resume` goes on with new attempts of them.

    Example:  tunesmith pause digits-tpe
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    acts.pause(experiment, namespace, wait=not no_wait)


def resume(experiment: ExperimentName, *, namespace: Namespace = None) -> None:
    """Let a paused experiment go on, or start a stopped one again where its resumePolicy
    (LongRunning, FromVolume) and its budget allow that.

    Example:  tunesmith resume digits-tpe
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    acts.resume(experiment, namespace)


def stop(
    experiment: ExperimentName, *, namespace: Namespace = None, no_wait: NoWait = False
) -> None:
    """End an experiment now, as Succeeded, with the best trial it has found.

    Example:  tunesmith stop digits-tpe
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    acts.stop(experiment, namespace, wait=not no_wait)


def extend(
    experiment: ExperimentName,
    *,
    namespace: Namespace = None,
    trials: Annotated[
        str | None, typer.Option(help="maxTrialCount: a number, or +20 for so many more.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="parallelTrialCount.")] = None,
    deadline: Annotated[
        int | None, typer.Option(help="activeDeadlineSeconds, counted from the (last) start.")
    ] = None,
) -> None:
    """Change how many trials there are in all or at once, or until when, also after the end where
    the experiment's resumePolicy (LongRunning, FromVolume) allows that.

    Example:  tunesmith extend digits-tpe --trials +20
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    if trials is None and parallel is None and deadline is None:
        raise typer.BadParameter("say what: --trials +20, --parallel 4, --deadline 3600")
    acts.extend(experiment, namespace, trials=trials, parallel=parallel, deadline=deadline)


def enqueue(
    experiment: ExperimentName,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...",
            autocompletion=complete_assignment,
            help="A value for each parameter.",
        ),
    ],
    *,
    namespace: Namespace = None,
) -> None:
    """Try a point of your own before the algorithm is asked again; the same point again is tried
    again.

    Example:  tunesmith enqueue digits-tpe lr=0.01 hidden=64
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    acts.enqueue(experiment, namespace, values)


def delete(experiment: ExperimentName, *, namespace: Namespace = None) -> None:
    """Delete an experiment with its trials, metrics and files; running trials are stopped.

    Example:  tunesmith delete digits-tpe
    """
    from tunesmith.cli import acts  # noqa: PLC0415

    acts.delete(experiment, namespace)
