# SPDX-License-Identifier: Apache-2.0
"""The program that is typed: its verbs in the order of its help, and the options before a verb."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tunesmith.cli.commands import changing, looking, running, serving
from tunesmith.cli.commands.certify import certify
from tunesmith.cli.commands.importing import imports
from tunesmith.cli.commands.installing import doctor, install, uninstall

app = typer.Typer(
    name="tunesmith",
    help="Hyper-parameter tuning: runs Katib's Experiments on this machine.\n\n"
    "Start with:  tunesmith run experiment.yaml\n\n"
    "Completion of verbs and names:  tunesmith --install-completion",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


# In the order of `tunesmith --help`.
_VERBS: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("run", "Run an experiment, or continue one.", running.run),
    ("create", "Store an experiment without running it.", running.create),
    ("watch", "Follow an experiment until it ends.", running.watch),
    ("validate", "Check an experiment file.", running.validate),
    ("ls", "List experiments.", looking.list_experiments),
    ("show", "Show one experiment: state, counts, best trial.", looking.show),
    ("trials", "List trials: parameters and metrics.", looking.trials),
    ("best", "Show the best trial, in forms to paste.", looking.best),
    ("logs", "Print what a trial printed.", looking.logs),
    ("why", "Explain a state, and what to do next.", looking.why),
    ("pause", "Interrupt the trials of an experiment.", changing.pause),
    ("resume", "Let a paused or stopped experiment go on.", changing.resume),
    ("stop", "End an experiment with what it has found.", changing.stop),
    ("extend", "Change the number of trials, in all or at once.", changing.extend),
    ("enqueue", "Try a point of your own.", changing.enqueue),
    ("delete", "Delete an experiment and its trials.", changing.delete),
    ("algorithms", "List algorithms, or the settings of one.", looking.algorithms),
    ("certify", "Try a suggestion service from outside.", certify),
    ("install", "Install tunesmith on a cluster.", install),
    ("uninstall", "Take tunesmith off a cluster.", uninstall),
    ("doctor", "Look an installation on a cluster over.", doctor),
    ("serve", "Run the controller and the API of this machine.", serving.serve),
    ("controller", "Run the controller of this machine alone.", serving.controller),
    ("suggestion", "Serve the algorithms over gRPC.", serving.suggestion),
    ("earlystopping", "Serve the early stopping rules over gRPC.", serving.earlystopping),
    ("db-manager", "Serve the observation log over gRPC.", serving.db_manager),
)

for _name, _short_help, _verb in _VERBS:
    app.command(name=_name, short_help=_short_help)(_verb)

app.add_typer(imports, name="import", short_help="Take over what other programs have kept.")

# Its options are its own, --help included: a sidecar has the same ones without this program.
app.command(
    name="collector",
    short_help="Collect the metrics of one attempt.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serving.collector)
