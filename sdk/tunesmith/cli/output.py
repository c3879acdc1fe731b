# SPDX-License-Identifier: Apache-2.0
"""How results are printed: tables for people, JSON, YAML, env and arguments for programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.errors import ChangedExperiment, Fault, InvalidExperiment, TunesmithError
from tunesmith.explain import Explanation
from tunesmith.views import BestView, ExperimentView, Number, TrialView

COLOURS: Mapping[str, str] = {
    "Succeeded": "green",
    "Running": "cyan",
    "Created": "default",
    "Pending": "default",
    "Failed": "red",
    "MetricsUnavailable": "yellow",
    "EarlyStopped": "magenta",
    "Killed": "magenta",
}


class Format(StrEnum):
    """Output forms of lists and objects."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class BestFormat(StrEnum):
    """Output forms of `best`."""

    TABLE = "table"
    ENV = "env"
    JSON = "json"
    YAML = "yaml"
    ARGS = "args"


def console(*, stderr: bool = False) -> Console:
    """A console that honours NO_COLOR and --no-color (which sets it)."""
    return Console(stderr=stderr, highlight=False, no_color="NO_COLOR" in os.environ or None)


def print_data(value: Any, form: Format | BestFormat) -> None:
    """Machine forms: no colours, stable keys."""
    if form.value == "yaml":
        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


# ---- errors -------------------------------------------------------------------------------------


def print_error(error: TunesmithError) -> None:
    """What happened, where, and what to do next, on stderr."""
    out = console(stderr=True)
    out.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if isinstance(error, InvalidExperiment):
        for fault in error.faults:
            print_fault(out, error.source, fault, "red")
    if isinstance(error, ChangedExperiment):
        print_diff(out, error.diff)
    if error.hint:
        out.print(Text.assemble(("hint: ", "bold"), error.hint), soft_wrap=True)


def print_fault(out: Console, source: str, fault: Fault, colour: str) -> None:
    place = f"{source}:{fault.line}: " if fault.line else ""
    field = f"{fault.field}: " if fault.field else ""
    out.print(Text.assemble("  ", place, (field, colour), fault.message), soft_wrap=True)
    if fault.hint:
        out.print(Text.assemble("      ", fault.hint), soft_wrap=True)


def print_diff(out: Console, diff: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in diff.splitlines():
        out.print(Text("  " + line, styles.get(line[:1], "")), soft_wrap=True)


# ---- tables -------------------------------------------------------------------------------------


def number(value: Number | None) -> str:
    """Short for people: six significant digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def short(text: str) -> str:
    """A parameter's text, shortened when it is a long number."""
    try:
        return f"{float(text):.6g}" if len(text) > 8 else text
    except ValueError:
        return text


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """ "1m05s" between two times, or until now."""
    if start is None:
        return ""
    seconds = max(int(((end or datetime.now(UTC)) - start).total_seconds()), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def state_text(state: str) -> Text:
    return Text(state, COLOURS.get(state, ""))


def trials_table(trials: Sequence[TrialView], metric: str, *, wide: bool = False) -> Table:
    """Columns: name, state, time, objective, parameters; wide adds metrics and messages."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("TRIAL", no_wrap=True)
    table.add_column("STATE")
    table.add_column("TIME", justify="right")
    table.add_column(metric or "OBJECTIVE", justify="right")
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    others = list(dict.fromkeys(n for t in trials for n in t.metrics if n != metric))
    for name in parameters:
        table.add_column(name, justify="right")
    for name in others if wide else ():
        table.add_column(name, justify="right")
    if wide:
        table.add_column("ATTEMPT", justify="right")
        table.add_column("MESSAGE")
    for trial in trials:
        row: list[str | Text] = [
            trial.name,
            state_text(trial.state),
            elapsed(trial.start_time, trial.completion_time),
            number(trial.value),
            *(short(trial.parameters.get(name, "")) for name in parameters),
        ]
        if wide:
            row += [number(trial.metrics[n].latest) if n in trial.metrics else "" for n in others]
            row += [str(trial.attempt), trial.waiting or trial.message]
        table.add_row(*row)
    return table


def experiments_table(experiments: Sequence[ExperimentView]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAMESPACE", "EXPERIMENT", "STATE", "ALGORITHM", "DONE", "BEST", "AGE"):
        table.add_column(title, no_wrap=True)
    for view in experiments:
        best = "" if view.best is None else f"{view.metric}={number(view.best.value)}"
        state = Text("Paused", "yellow") if view.paused and not view.is_over else None
        table.add_row(
            view.namespace,
            view.name,
            state or state_text(view.state),
            view.algorithm,
            f"{view.ended}/{view.budget or '-'}",
            best,
            elapsed(view.start_time, view.completion_time),
        )
    return table


def experiment_lines(view: ExperimentView) -> list[str]:
    """The head of `show`."""
    counts = ", ".join(f"{count} {state}" for state, count in view.counts.items()) or "none yet"
    goal = "" if view.goal is None else f", goal {view.goal:g}"
    lines = [
        f"experiment  {view.namespace}/{view.name}",
        f"state       {view.state}{' (paused)' if view.paused and not view.is_over else ''}"
        f"  {view.reason}: {view.message}",
        f"algorithm   {view.algorithm}, {view.parallel} in parallel",
        f"objective   {view.direction} {view.metric}{goal}",
        f"trials      {view.ended}/{view.budget or '-'} ended ({counts})",
        f"time        {elapsed(view.start_time, view.completion_time)}",
    ]
    return lines if view.best is None else [*lines, *best_lines(view.best)]


def best_lines(best: BestView) -> list[str]:
    values = "  ".join(f"{n}={number(m.latest)}" for n, m in best.metrics.items())
    return [
        f"best        {best.metric}={number(best.value)}  ({best.trial})",
        f"            {values}",
        f"parameters  {args_text(best.parameters)}",
    ]


# ---- parameters in a form to paste --------------------------------------------------------------


def args_text(parameters: Mapping[str, str]) -> str:
    """`--lr=0.1 --opt=adam`, quoted for a shell where needed."""
    return " ".join(shlex.quote(f"--{name}={value}") for name, value in parameters.items())


def env_text(parameters: Mapping[str, str]) -> str:
    """`export LR=0.1` lines; a name that a shell cannot hold gets underscores."""
    lines = [
        f"export {re.sub(r'[^A-Za-z0-9_]', '_', name).upper()}={shlex.quote(value)}"
        for name, value in parameters.items()
    ]
    return "\n".join(re.sub(r"^export (\d)", r"export _\1", line) for line in lines)


def print_best(best: BestView, form: BestFormat) -> None:
    if form is BestFormat.ENV:
        sys.stdout.write(env_text(best.parameters) + "\n")
    elif form is BestFormat.ARGS:
        sys.stdout.write(args_text(best.parameters) + "\n")
    elif form is BestFormat.TABLE:
        for line in best_lines(best):
            console().print(Text(line), soft_wrap=True)
    else:
        print_data(best.json(), form)


def print_explanation(found: Explanation) -> None:
    out = console()
    out.print(Text.assemble((found.subject, "bold"), " is ", state_text(found.state)))
    for sentence in found.sentences:
        out.print(Text("  " + sentence), soft_wrap=True)
    if found.lines:
        out.print("  last lines:")
        for line in found.lines:
            out.print(Text("    " + line), soft_wrap=True)
    for command in found.commands:
        out.print(Text.assemble(("next: ", "bold"), command))
