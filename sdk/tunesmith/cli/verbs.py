# SPDX-License-Identifier: Apache-2.0
"""What each verb does: calls the client and prints. Imported by `app` when a verb is run, so that
help and completion are quick."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

from tunesmith.cli import output, tables
from tunesmith.cli.forms import MACHINE_FORMS, BestFormat, Format, Runtime
from tunesmith.cli.run_command import run_experiment, watch_experiment
from tunesmith.cli.run_screen import best_trials
from tunesmith.client import Client
from tunesmith.home import logs_folder, next_command


def log_to_file() -> None:
    """The controller's log: 10 MB, three older ones kept."""
    try:
        handler = logging.handlers.RotatingFileHandler(
            logs_folder() / "controller.log", maxBytes=10_000_000, backupCount=3
        )
    except OSError:
        # The state directory is unusable; the command itself says so with its cause.
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(root.level or logging.WARNING, logging.INFO))


def run(
    file: Path, namespace: str | None, *, fresh: bool, cpus: float | None, runtime: Runtime
) -> int:
    """The exit status."""
    log_to_file()
    client = Client(namespace=namespace, cpus=cpus, runtime=runtime.value)
    return run_experiment(client, file, fresh=fresh)


def create(file: Path, namespace: str | None) -> None:
    client = Client(namespace=namespace)
    view = client.create(file)
    print(f"experiment {view.name} created in namespace {view.namespace}")
    watching = next_command("watch", view.name, namespace=view.namespace)
    if client.controller():
        output.print_next(output.console(), [watching])
        return
    running = next_command("run", str(file), namespace=view.namespace)
    output.print_next(
        output.console(),
        [
            *([f"{running}  # runs it here, to its end"] if str(file) != "-" else ()),
            "tunesmith serve  # runs all that are stored",
        ],
    )


def watch(experiment: str, namespace: str | None) -> int:
    """The exit status."""
    return watch_experiment(Client(namespace=namespace), experiment)


def validate(file: Path, namespace: str | None) -> None:
    checked = Client(namespace=namespace).validate(file)
    out = output.console()
    for warning in checked.warnings:
        output.print_fault(out, f"warning: {file}", warning, "yellow")
    print("standard input: valid" if str(file) == "-" else f"{file}: valid")


def list_experiments(namespace: str | None, *, everywhere: bool, form: Format) -> None:
    client = Client(namespace=namespace)
    found = client.experiments(all_namespaces=everywhere)
    if form in MACHINE_FORMS:
        output.print_data([view.json() for view in found], form)
    elif found:
        out = output.console()
        width = None if form is Format.WIDE else output.table_width(out)
        table = tables.experiments_table(found, width, namespaces=everywhere)
        output.print_whole(out, table)
    elif not everywhere and client.experiments(all_namespaces=True):
        others = "other namespaces have some: tunesmith ls -A"
        print(f"no experiments in namespace {client.namespace}; {others}", file=sys.stderr)
    else:
        print("no experiments; start one with: tunesmith run FILE", file=sys.stderr)


def show(experiment: str, namespace: str | None, form: Format) -> None:
    view = Client(namespace=namespace).experiment(experiment)
    if form in MACHINE_FORMS:
        output.print_data(view.json(), form)
    else:
        print("\n".join(output.experiment_lines(view)))


def trials(
    experiment: str, namespace: str | None, form: Format, *, best_first: bool, top: int | None
) -> None:
    client = Client(namespace=namespace)
    view, found = client.experiment(experiment), client.trials(experiment)
    if best_first:
        found = [*best_trials(view, found), *(trial for trial in found if trial.value is None)]
    found = found[:top]
    if form in MACHINE_FORMS:
        output.print_data([trial.json() for trial in found], form)
    elif found:
        out = output.console()
        wide, width = form is Format.WIDE, output.table_width(out)
        table = tables.trials_table(found, view.metric, wide=wide, width=width)
        output.print_whole(out, table)
    else:
        hint = next_command("why", experiment, namespace=view.namespace)
        print(f"experiment {experiment} has no trials yet; {hint}", file=sys.stderr)


def best(experiment: str, namespace: str | None, form: BestFormat) -> None:
    output.print_best(Client(namespace=namespace).best(experiment), form)


def logs(trial: str, namespace: str | None, *, follow: bool) -> None:
    printed = False
    for line in Client(namespace=namespace).logs(trial, follow=follow):
        print(line, flush=follow)
        printed = True
    if not printed:
        print(f"trial {trial} has printed nothing", file=sys.stderr)


def why(name: str, namespace: str | None) -> None:
    output.print_explanation(Client(namespace=namespace).why(name))


def algorithms(name: str | None, form: Format) -> None:
    client = Client()
    if name is None:
        every = client.algorithms()
        if form in MACHINE_FORMS:
            output.print_data([view.json() for view in every], form)
        else:
            output.print_algorithms(every)
        return
    found = client.algorithm(name)
    if form in MACHINE_FORMS:
        output.print_data(found.json(), form)
    else:
        output.print_algorithm(found)
