# SPDX-License-Identifier: Apache-2.0
"""How results are printed: sentences for people, JSON, YAML, env and arguments for programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tunesmith.cli.forms import BestFormat, Format
from tunesmith.cli.tables import Column, column, counts_of, elapsed, lines, number, state_text
from tunesmith.errors import ChangedExperiment, Fault, InvalidExperiment, TunesmithError, counted
from tunesmith.explain import Explanation
from tunesmith.views import (
    AlgorithmKind,
    AlgorithmView,
    BestView,
    ExperimentView,
    SettingView,
    state_word,
)

_LABEL = 12
"""Characters of the labels on the left of what `show` prints."""


def console(*, stderr: bool = False) -> Console:
    """A console that honours NO_COLOR and --no-color (which sets it)."""
    # An empty NO_COLOR means nothing (no-color.org).
    no_color = bool(os.environ.get("NO_COLOR")) or None
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, no_color=no_color)


def print_whole(out: Console, text: Text) -> None:
    """Prints without wrapping or cutting: the line that is copied is the line that was meant."""
    out.print(text, soft_wrap=True)


def print_sentence(out: Console, text: Text, indent: int = 0) -> None:
    """Prints at full length for files and pipes, wrapped between words on a terminal."""
    if out.is_terminal:
        out.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        print_whole(out, Text.assemble(" " * indent, text))


def table_width(out: Console) -> int | None:
    """What tables must fit in; None for files and pipes, which get them whole."""
    return out.width if out.is_terminal else None


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
    print_whole(out, Text.assemble(("error: ", "bold red"), error.message))
    if isinstance(error, InvalidExperiment) and not error.is_unreadable:
        for fault in error.faults:
            print_fault(out, error.source, fault, "red")
    if isinstance(error, ChangedExperiment):
        print_diff(out, error.diff)
    if error.hint:
        print_whole(out, Text.assemble(("hint: ", "bold"), error.hint))


def print_fault(out: Console, source: str, fault: Fault, colour: str) -> None:
    place = f"{source}:{fault.line}: " if fault.line else ""
    field = f"{fault.field}: " if fault.field else ""
    print_whole(out, Text.assemble("  ", place, (field, colour), fault.message))
    if fault.hint:
        print_whole(out, Text.assemble("      ", fault.hint))


def print_diff(out: Console, diff: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in diff.splitlines():
        print_whole(out, Text("  " + line, styles.get(line[:1], "")))


# ---- one object ---------------------------------------------------------------------------------


def labelled(label: str, *lines: str) -> list[str]:
    """Lines with a label on the left of the first."""
    return [f"{label if not n else '':<{_LABEL}}{line}" for n, line in enumerate(lines)]


def experiment_lines(view: ExperimentView) -> list[str]:
    """What `show` says of an experiment, and `run` at its end."""
    by_state = ", ".join(f"{count} {state}" for state, count in counts_of(view).items())
    goal = "" if view.goal is None else f", goal {view.goal:g}"
    word = state_word(view)
    said = f"{view.reason}: {view.message}" if view.reason and word == view.state else ""
    lines = [
        *labelled("experiment", f"{view.namespace}/{view.name}"),
        *labelled("state", f"{word}  {said}".rstrip()),
        *(labelled("waiting", view.waiting) if view.waiting and not view.paused else ()),
        *labelled("algorithm", f"{view.algorithm}, {view.parallel} in parallel"),
        *labelled("objective", f"{view.direction} {view.metric}{goal}"),
        *labelled("trials", f"{view.ended}/{view.budget or '-'} ended ({by_state or 'none yet'})"),
        *labelled("time", elapsed(view.start_time, view.completion_time) or "not started"),
    ]
    return lines if view.best is None else [*lines, *best_lines(view.best)]


def best_lines(best: BestView) -> list[str]:
    """The best trial; its latest figures where they say more than the objective does."""
    figures = {name: number(metric.latest) for name, metric in best.metrics.items()}
    if figures.get(best.metric) == number(best.value):
        del figures[best.metric]
    latest = "  ".join(f"{name}={figure}" for name, figure in figures.items())
    return [
        *labelled("best", f"{best.metric}={number(best.value)}  (trial {best.trial})"),
        *(labelled("", f"latest: {latest}") if latest else ()),
        *labelled("parameters", args_text(best.parameters)),
    ]


def print_next(out: Console, commands: Sequence[str]) -> None:
    """The commands that help next, each alone on its line."""
    for line in labelled("next", *commands):
        print_whole(out, Text.assemble((line[:_LABEL], "bold"), line[_LABEL:]))


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
        sys.stdout.write("\n".join(best_lines(best)) + "\n")
    else:
        print_data(best.json(), form)


def print_explanation(found: Explanation) -> None:
    out = console()
    print_whole(out, Text.assemble((found.subject, "bold"), " is ", state_text(found.state)))
    for sentence in found.sentences:
        print_sentence(out, Text(sentence), indent=2)
    if found.lines:
        print_whole(out, Text("  last lines:"))
        for line in found.lines:
            print_whole(out, Text("    " + line))
    print_next(out, found.commands)


# ---- algorithms ---------------------------------------------------------------------------------


def print_algorithms(found: Sequence[AlgorithmView]) -> None:
    """A section a kind; a line each: the name and the names of its settings."""
    out = console()
    for kind in AlgorithmKind:
        views = [view for view in found if view.kind is kind]
        if not views:
            continue
        print_whole(out, Text(_SECTIONS[kind], "bold"))
        for view in views:
            settings = ", ".join(setting.name for setting in view.settings)
            said = view.problem or (f"settings: {settings}" if settings else "no settings")
            print_whole(out, Text(f"  {view.name:<18}{said}"))
    print_next(out, [f"tunesmith algorithms {found[0].name}"] if found else [])


def print_algorithm(view: AlgorithmView) -> None:
    """Its settings, and how they are written in an experiment."""
    out = console()
    version = f"version {view.version}, " if view.version else ""
    said = view.problem or f"{view.kind}, {version}{counted(len(view.settings), 'setting')}"
    print_whole(out, Text.assemble((view.name, "bold"), f"  {said}"))
    if view.settings:
        out.print()
        print_whole(out, lines(_settings_table(view.settings)))
    for setting in view.settings:
        print_whole(out, Text.assemble("\n", (setting.name, "bold")))
        also = f" Also written {', '.join(setting.aliases)}." if setting.aliases else ""
        for line in textwrap.wrap(f"{setting.help}{also}", min(out.width, 100) - 2):
            print_whole(out, Text("  " + line))
    print_whole(out, Text(f"\nIn an experiment:\n{_snippet(view)}"))


def _settings_table(settings: Sequence[SettingView]) -> list[Column]:
    return [
        column("SETTING", [setting.name for setting in settings]),
        column("ALLOWED", [setting.allowed for setting in settings]),
        column("DEFAULT", [setting.default or "-" for setting in settings]),
    ]


def _snippet(view: AlgorithmView) -> str:
    """YAML to paste below `spec:`."""
    body = f"    algorithmName: {view.name}"
    example = next((setting for setting in view.settings if setting.default), None)
    if example is not None:
        value = f"{{name: {example.name}, value: {json.dumps(example.default)}}}"
        body += f"\n    algorithmSettings: [{value}]"
    return f"  {_FIELDS[view.kind]}:\n{body}"


_SECTIONS = {
    AlgorithmKind.SEARCH: "algorithms",
    AlgorithmKind.EARLY_STOPPING: "early stopping",
}
_FIELDS = {AlgorithmKind.SEARCH: "algorithm", AlgorithmKind.EARLY_STOPPING: "earlyStopping"}
