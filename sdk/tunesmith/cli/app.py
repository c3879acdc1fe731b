# SPDX-License-Identifier: Apache-2.0
"""The verbs as they are typed: arguments, options, help. The work is in `verbs` and `services`,
which are imported when a verb is run."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.completion import complete_experiment, complete_name
from tunesmith.cli.forms import BestFormat, Format

app = typer.Typer(
    name="tunesmith",
    help="Hyper-parameter tuning: runs Katib's Experiments on this machine.\n\n"
    "Start with:  tunesmith run experiment.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace (default: TUNESMITH_NAMESPACE).")
]
ExperimentName = Annotated[str, typer.Argument(autocompletion=complete_experiment)]
AnyName = Annotated[
    str,
    typer.Argument(
        autocompletion=complete_name,
        help="A trial's name, the beginning of one, or EXPERIMENT/NUMBER.",
    ),
]
File = Annotated[Path, typer.Argument(help="An Experiment as YAML or JSON; - for standard input.")]
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


# ---- running ------------------------------------------------------------------------------------


@app.command(short_help="Run an experiment, or continue one.")
def run(
    file: File,
    *,
    namespace: Namespace = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete an existing experiment of this name first.")
    ] = False,
    cpus: Annotated[
        float | None, typer.Option(min=0, help="CPUs that trials may use together (default: all).")
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
    from tunesmith.cli import verbs  # noqa: PLC0415

    raise typer.Exit(verbs.run(file, namespace, fresh=fresh, cpus=cpus))


@app.command(short_help="Check an experiment file.")
def validate(file: File, *, namespace: Namespace = None) -> None:
    """Check an experiment file: every fault with its line, exit status 2 when there is one.

    Example:  tunesmith validate experiment.yaml
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.validate(file, namespace)


# ---- looking ------------------------------------------------------------------------------------


@app.command(name="ls", short_help="List experiments.")
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


@app.command(short_help="Show one experiment: state, counts, best trial.")
def show(
    experiment: ExperimentName, *, namespace: Namespace = None, form: Output = Format.TABLE
) -> None:
    """Show one experiment: state, counts, best trial.

    Example:  tunesmith show digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.show(experiment, namespace, form)


@app.command(short_help="List trials: parameters and metrics.")
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

    On a terminal the table is cut to its width; -o wide, a pipe or a file get all of it.

    Example:  tunesmith trials digits-tpe --sort objective --top 5
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    if sort not in ("ordinal", "objective"):
        raise typer.BadParameter(f"{sort!r} is not ordinal or objective", param_hint="--sort")
    verbs.trials(experiment, namespace, form, best_first=sort == "objective", top=top)


@app.command(short_help="Show the best trial, in forms to paste.")
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


@app.command(short_help="Print what a trial printed.")
def logs(
    trial: AnyName,
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


@app.command(short_help="Explain a state, and what to do next.")
def why(
    name: Annotated[
        str, typer.Argument(autocompletion=complete_name, help="An experiment or a trial.")
    ],
    *,
    namespace: Namespace = None,
) -> None:
    """Explain why an experiment or a trial is in its state, and what to do next.

    Example:  tunesmith why digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.why(name, namespace)


@app.command(short_help="Delete an experiment and its trials.")
def delete(experiment: ExperimentName, *, namespace: Namespace = None) -> None:
    """Delete an experiment with its trials, metrics and files; running trials are stopped.

    Example:  tunesmith delete digits-tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.delete(experiment, namespace)


@app.command(short_help="List algorithms, or the settings of one.")
def algorithms(
    name: Annotated[str | None, typer.Argument(help="Shows the settings of this one.")] = None,
    *,
    form: Output = Format.TABLE,
) -> None:
    """List the algorithms, or the settings of one: what each may be, its default, what it does.

    Example:  tunesmith algorithms tpe
    """
    from tunesmith.cli import verbs  # noqa: PLC0415

    verbs.algorithms(name, form)


# ---- services by hand ---------------------------------------------------------------------------

Listen = Annotated[str, typer.Option(help="unix:/path/to.sock or host:port.", metavar="ADDR")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Plaintext TCP; loopback addresses only.")
]
TlsFile = Annotated[Path | None, typer.Option(help="PEM file.")]


@app.command(short_help="Serve the algorithms over gRPC.")
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


@app.command(name="db-manager", short_help="Serve the observation log over gRPC.")
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
