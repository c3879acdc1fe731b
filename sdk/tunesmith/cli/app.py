# SPDX-License-Identifier: Apache-2.0
"""The verbs. Each one calls the client and prints; options and their help live here."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli import output
from tunesmith.cli.completion import complete_experiment, complete_name
from tunesmith.cli.output import BestFormat, Format
from tunesmith.cli.run_command import run_experiment
from tunesmith.cli.run_view import best_trials
from tunesmith.client import Client
from tunesmith.home import state_home

app = typer.Typer(
    name="tunesmith",
    help="Hyper-parameter tuning: runs Katib's Experiments on this machine.\n\n"
    "Start with:  tunesmith run experiment.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace (default: TUNESMITH_NAMESPACE).")
]
ExperimentName = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", autocompletion=complete_experiment)
]
AnyName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_name)]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An Experiment as YAML or JSON.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="Form of the output.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        print(f"tunesmith {version('tunesmith')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log to stderr and show tracebacks.")
    ] = False,
) -> None:
    if no_color:
        os.environ["NO_COLOR"] = "1"
    if debug:
        os.environ["TUNESMITH_DEBUG"] = "1"
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


def _log_to_file() -> None:
    """The controller's log: 10 MB, three older ones kept."""
    folder = state_home() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.handlers.RotatingFileHandler(
            folder / "controller.log", maxBytes=10_000_000, backupCount=3
        )
    except OSError:
        # The state directory is unusable; the command itself says so with its cause.
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(min(root.level or logging.WARNING, logging.INFO))


# ---- running ------------------------------------------------------------------------------------


@app.command()
def run(
    file: File,
    *,
    namespace: Namespace = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete an existing experiment of this name first.")
    ] = False,
    cpus: Annotated[
        float | None, typer.Option(help="CPUs that trials may use together (default: all).")
    ] = None,
) -> None:
    """Run an experiment to its end, or continue one that is unfinished.

    A finished experiment prints its result; a changed file is refused with the difference
    (--fresh starts anew). Ctrl-C asks whether to stop the trials or to leave them running; without
    a terminal, SIGINT and SIGTERM stop them. Stopped or killed, the same command continues.

    Exit status: 0 the experiment succeeded, 1 it failed, 2 the file or its name is wrong, 3 the
    state directory cannot be used, 130/143 interrupted.

    Example:  tunesmith run examples/digits/tpe.yaml
    """
    _log_to_file()
    raise typer.Exit(run_experiment(Client(namespace=namespace, cpus=cpus), file, fresh=fresh))


@app.command()
def validate(file: File, *, namespace: Namespace = None) -> None:
    """Check an experiment file: every fault with its line, exit status 2 when there is one.

    Example:  tunesmith validate experiment.yaml
    """
    checked = Client(namespace=namespace).validate(file)
    out = output.console()
    for warning in checked.warnings:
        output.print_fault(out, f"warning: {file}", warning, "yellow")
    print(f"{file}: valid")


# ---- looking ------------------------------------------------------------------------------------


@app.command(name="ls")
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
    found = Client(namespace=namespace).experiments(all_namespaces=all_namespaces)
    if form in (Format.JSON, Format.YAML):
        output.print_data([view.json() for view in found], form)
    elif found:
        output.console().print(output.experiments_table(found))
    else:
        print("no experiments; start one with: tunesmith run FILE", file=sys.stderr)


@app.command()
def show(
    experiment: ExperimentName, *, namespace: Namespace = None, form: Output = Format.TABLE
) -> None:
    """Show one experiment: state, counts, best trial.

    Example:  tunesmith show digits-tpe
    """
    view = Client(namespace=namespace).experiment(experiment)
    if form in (Format.JSON, Format.YAML):
        output.print_data(view.json(), form)
        return
    for line in output.experiment_lines(view):
        print(line)


@app.command()
def trials(
    experiment: ExperimentName,
    *,
    namespace: Namespace = None,
    form: Output = Format.TABLE,
    sort: Annotated[
        str, typer.Option(help="ordinal, or objective for the best first.")
    ] = "ordinal",
    top: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
) -> None:
    """List the trials of an experiment with their parameters and metrics.

    Example:  tunesmith trials digits-tpe --sort objective --top 5
    """
    if sort not in ("ordinal", "objective"):
        raise typer.BadParameter(f"{sort!r} is not ordinal or objective", param_hint="--sort")
    client = Client(namespace=namespace)
    view, found = client.experiment(experiment), client.trials(experiment)
    if sort == "objective":
        best = best_trials(view, found)
        found = [*best, *(trial for trial in found if trial.value is None)]
    found = found[:top]
    if form in (Format.JSON, Format.YAML):
        output.print_data([trial.json() for trial in found], form)
    else:
        table = output.trials_table(found, view.metric, wide=form is Format.WIDE)
        output.console().print(table)


@app.command()
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
    output.print_best(Client(namespace=namespace).best(experiment), form)


@app.command()
def logs(
    trial: AnyName,
    *,
    namespace: Namespace = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait for more until the trial ends.")
    ] = False,
) -> None:
    """Print what a trial printed. TRIAL is its name, the beginning of it, or EXPERIMENT/ORDINAL.

    Example:  tunesmith logs digits-tpe/3 -f
    """
    for line in Client(namespace=namespace).logs(trial, follow=follow):
        print(line, flush=follow)


@app.command()
def why(name: AnyName, *, namespace: Namespace = None) -> None:
    """Explain why an experiment or a trial is in its state, and what to do next.

    Example:  tunesmith why digits-tpe
    """
    output.print_explanation(Client(namespace=namespace).why(name))


@app.command()
def delete(experiment: ExperimentName, *, namespace: Namespace = None) -> None:
    """Delete an experiment with its trials, metrics and files; running trials are stopped.

    Example:  tunesmith delete digits-tpe
    """
    _log_to_file()
    Client(namespace=namespace).delete(
        experiment, notice=lambda sentence: print(f"note: {sentence}", file=sys.stderr)
    )
    print(f"experiment {experiment} deleted")


# ---- services by hand ---------------------------------------------------------------------------

Listen = Annotated[str, typer.Option(help="unix:/path/to.sock or host:port.", metavar="ADDR")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Plaintext TCP; loopback addresses only.")
]
TlsFile = Annotated[Path | None, typer.Option(help="PEM file.")]


@app.command()
def suggestion(
    *,
    listen: Listen,
    insecure: Insecure = False,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
) -> None:
    """Serve the algorithms over gRPC (Katib's api.v1.beta1.Suggestion and tunesmith's own).

    Example:  tunesmith suggestion --listen 127.0.0.1:6789 --insecure
    """
    from tunesmith.cli.services import serve_suggestions  # noqa: PLC0415

    raise typer.Exit(serve_suggestions(listen, insecure, tls_cert, tls_key))


@app.command(name="db-manager")
def db_manager(
    *,
    listen: Listen,
    db: Annotated[str, typer.Option(help="SQLAlchemy URL, such as sqlite:////path/to.db.")],
    insecure: Insecure = False,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
) -> None:
    """Serve the observation log over gRPC (Katib's api.v1.beta1.DBManager and tunesmith's own).

    Example:  tunesmith db-manager --listen 127.0.0.1:6790 --db sqlite:////tmp/rows.db --insecure
    """
    from tunesmith.cli.services import serve_observations  # noqa: PLC0415

    raise typer.Exit(serve_observations(listen, db, insecure, tls_cert, tls_key))
