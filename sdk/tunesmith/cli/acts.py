# SPDX-License-Identifier: Apache-2.0
"""What each verb that changes an experiment does: calls the client, says what came of it. Imported
by `commands.changing` when a verb is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tunesmith.cli import output
from tunesmith.cli.verbs import log_to_file
from tunesmith.client import Client
from tunesmith.errors import Fault, InvalidExperiment, counted
from tunesmith.home import next_command
from tunesmith.views import ExperimentView

_NOBODY = "no controller is running; it takes effect with `tunesmith serve` or `tunesmith run`"


def pause(experiment: str, namespace: str | None, *, wait: bool) -> None:
    client = Client(namespace=namespace)
    view = client.pause(experiment, wait=wait)
    running = view.counts.get("Running", 0)
    print(f"experiment {experiment} is {'over' if view.is_over else 'paused'}")
    if _nobody_controls(client) and running:
        print(f"note: {counted(running, 'trial')} run on until then", file=sys.stderr)
    _next(view, ("resume", experiment))


def resume(experiment: str, namespace: str | None) -> None:
    client = Client(namespace=namespace)
    before = client.experiment(experiment)
    view = client.resume(experiment)
    if before.paused or before.stopping or before.is_over:
        print(f"experiment {experiment} goes on")
    else:
        print(f"experiment {experiment} is neither paused nor stopped: it is {view.state}")
    _nobody_controls(client)
    _next(view, ("watch", experiment))


def stop(experiment: str, namespace: str | None, *, wait: bool) -> None:
    client = Client(namespace=namespace)
    view = client.stop(experiment, wait=wait)
    if not view.is_over:
        print(f"experiment {experiment} is being stopped")
        _nobody_controls(client)
    elif view.best is None:
        print(f"experiment {experiment} ended {view.state}; no trial has a result")
    else:
        print(f"experiment {experiment} ended {view.state}: {view.message}")
        print("\n".join(output.best_lines(view.best)))
    _next(view, ("best", experiment, "-o", "args") if view.best else ("why", experiment))


def extend(
    experiment: str,
    namespace: str | None,
    *,
    trials: str | None,
    parallel: int | None,
    deadline: int | None,
) -> None:
    client = Client(namespace=namespace)
    view = client.extend(experiment, trials=trials, parallel=parallel, deadline=deadline)
    budget = f"{view.budget} trials" if view.budget else "any number of trials"
    until = "" if deadline is None else f", {deadline} seconds from its start"
    print(f"experiment {experiment} has {budget}, {view.parallel} in parallel{until}")
    if view.is_over and view.reason == "ExperimentStopped":
        # Its budget is not what ended it.
        _next(view, ("resume", experiment))
        return
    _nobody_controls(client)
    _next(view, ("watch", experiment))


def enqueue(experiment: str, namespace: str | None, values: Sequence[str]) -> None:
    client = Client(namespace=namespace)
    view = client.enqueue(experiment, _assignments(values))
    print(f"experiment {experiment} tries it next ({counted(view.enqueued, 'point')} enqueued)")
    if view.budget is not None and sum(view.counts.values()) >= view.budget:
        more = next_command("extend", experiment, "--trials", "+1", namespace=view.namespace)
        print(f"note: all {view.budget} trials have been started; {more}", file=sys.stderr)
    _nobody_controls(client)
    _next(view, ("trials", experiment))


def delete(experiment: str, namespace: str | None) -> None:
    log_to_file()
    Client(namespace=namespace).delete(
        experiment, notice=lambda sentence: print(f"note: {sentence}", file=sys.stderr)
    )
    print(f"experiment {experiment} deleted")


def _assignments(values: Sequence[str]) -> dict[str, str]:
    """`lr=0.1` by name. Raises InvalidExperiment."""
    pairs = [value.partition("=") for value in values]
    faults = [
        Fault(text, "is no NAME=VALUE", "such as lr=0.01")
        for text, (name, equals, _) in zip(values, pairs, strict=True)
        if not name or not equals
    ]
    names = [name for name, _, _ in pairs]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    faults += [Fault(name, "has two values") for name in twice]
    if faults:
        raise InvalidExperiment("the point to try", faults)
    return {name: value for name, _, value in pairs}


def _nobody_controls(client: Client) -> bool:
    """Says that nothing happens yet where that is so."""
    nobody = not client.controller()
    if nobody:
        print(f"note: {_NOBODY}", file=sys.stderr)
    return nobody


def _next(view: ExperimentView, words: tuple[str, ...]) -> None:
    output.print_next(output.console(), [next_command(*words, namespace=view.namespace)])
