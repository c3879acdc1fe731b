# SPDX-License-Identifier: Apache-2.0
"""Carries out `tunesmith certify` and prints the report; the checks are those of
`tunesmith_suggestion.certify`."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tunesmith import experiment_source
from tunesmith.cli import output
from tunesmith.cli.forms import MACHINE_FORMS, Format
from tunesmith.cli.tables import Column, column, lines
from tunesmith.errors import (
    Fault,
    InvalidExperiment,
    NotPossible,
    NotThere,
    ServiceUnreachable,
    counted,
)
from tunesmith_api.problems import space_of
from tunesmith_api.resources import Experiment
from tunesmith_api.search_space import SearchSpace
from tunesmith_suggestion.certify import (
    CHECKS,
    FULL,
    QUICK,
    Check,
    GrpcService,
    Lab,
    Subject,
    Unreachable,
    Verdict,
    run_checks,
)

_CONNECT_S = 10.0
_RESTART_S = 120.0
_LEAST_EVIDENCE = 24
_SHOWN_SKIPS = 4
"""Checks skipped for one reason that get a line each."""
_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.SKIP: "yellow"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command as it was typed."""

    address: str
    algorithm: str
    settings: tuple[str, ...] = ()
    space: Path | None = None
    timeout_s: float = 60.0
    quick: bool = False
    skip: tuple[str, ...] = ()
    restart_command: str = ""
    one_experiment: bool = False


def certify(wanted: Wanted, form: Format) -> int:
    """The exit status: 1 when a check failed. Raises TunesmithError."""
    _known(wanted.skip)
    subject = Subject(
        wanted.algorithm,
        _settings(wanted.settings),
        None if wanted.space is None else _space(wanted.space),
        wanted.one_experiment,
    )
    restart = _restart(wanted.restart_command) if wanted.restart_command else None
    with GrpcService(wanted.address, wanted.timeout_s) as service:
        _reach(service, min(wanted.timeout_s, _CONNECT_S))
        sizes = QUICK if wanted.quick else FULL
        lab = Lab(service, subject, sizes, f"{os.getpid():x}", restart)
        checks = _followed(lab, wanted.skip)
    if form in MACHINE_FORMS:
        output.print_data(report(wanted, checks), form)
    else:
        _print(wanted, checks, wide=form is Format.WIDE)
    return int(any(check.verdict is Verdict.FAIL for check in checks))


def _followed(lab: Lab, skip: Sequence[str]) -> list[Check]:
    """The checks; on a terminal a line says which one is made."""
    names = [*CHECKS, ""]
    found: list[Check] = []
    with output.console(stderr=True).status(names[0]) as status:
        for check in run_checks(lab, skip):
            found.append(check)
            status.update(f"{len(found)}/{len(CHECKS)} {names[len(found)]}")
    return found


# ---- what was typed -----------------------------------------------------------------------------


def _known(skip: Sequence[str]) -> None:
    for name in skip:
        if name not in CHECKS:
            near = difflib.get_close_matches(name, CHECKS)
            raise NotThere("check", name, near, f"the checks are {', '.join(CHECKS)}")


def _settings(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    faults = [
        Fault(text, "is no NAME=VALUE", "such as --setting random_state=7")
        for text, (name, equals, _) in zip(texts, pairs, strict=True)
        if not name or not equals
    ]
    if faults:
        raise InvalidExperiment("--setting", faults)
    return {name: value for name, _, value in pairs}


def _space(path: Path) -> SearchSpace:
    """The search space of a file; the algorithm in it may be unknown here."""
    loaded = experiment_source.load(path, None, "default")
    try:
        space = space_of(Experiment.parse(loaded.experiment))
    except ValueError as error:
        hint = f"tunesmith validate {shlex.quote(str(path))}"
        raise InvalidExperiment(
            loaded.name, [Fault("", f"has no search space that can be read: {error}", hint)]
        ) from None
    if not len(space):
        raise InvalidExperiment(loaded.name, [Fault("", "has no parameters")])
    return space


def _reach(service: GrpcService, seconds: float) -> None:
    try:
        service.wait(seconds)
    except Unreachable as error:
        raise ServiceUnreachable(
            str(error),
            "the service must listen there, without TLS; ours is started with: "
            f"tunesmith suggestion --listen {shlex.quote(service.target)} --insecure",
        ) from None


def _restart(command: str) -> Callable[[], None]:
    """Runs the command, without a shell. It raises NotPossible when that fails."""

    def run() -> None:
        try:
            subprocess.run(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=_RESTART_S,
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            words = f"ended with status {error.returncode}: {' '.join(said)}".rstrip(": ")
            raise _no_restart(command, words) from None
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise _no_restart(command, str(error)) from None

    return run


def _no_restart(command: str, reason: str) -> NotPossible:
    return NotPossible(
        f"the service cannot be restarted by {command!r}: {reason}",
        "try the command by itself; without --restart-command a restart is simulated",
    )


# ---- the report ---------------------------------------------------------------------------------


def report(wanted: Wanted, checks: Sequence[Check]) -> dict[str, Any]:
    """For programs; the keys are stable."""
    counts = Counter(check.verdict for check in checks)
    return {
        "address": wanted.address,
        "algorithm": wanted.algorithm,
        "quick": wanted.quick,
        "certified": not counts[Verdict.FAIL],
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict.value,
                "question": check.question,
                "evidence": check.evidence,
                "seconds": round(check.seconds, 3),
            }
            for check in checks
        ],
    }


def _print(wanted: Wanted, checks: Sequence[Check], *, wide: bool) -> None:
    out = output.console()
    width = None if wide else output.table_width(out)
    shown, left_out = _without_the_same(checks)
    output.print_whole(out, lines(_table(shown, width)))
    for reason, count in left_out.items():
        output.print_whole(out, Text(f"{counted(count, 'check')} more skipped: {reason}"))
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    for check in failed:
        _print_failure(out, check)
    output.print_whole(out, Text.assemble("\n", _summary(wanted, checks)))
    output.print_next(out, _next(wanted, failed))


def _without_the_same(checks: Sequence[Check]) -> tuple[list[Check], dict[str, int]]:
    """The checks to show, and how often each reason is that skips many."""
    reasons = Counter(check.evidence for check in checks if check.verdict is Verdict.SKIP)
    many = {reason: count for reason, count in reasons.items() if count > _SHOWN_SKIPS}
    kept = [c for c in checks if c.verdict is not Verdict.SKIP or c.evidence not in many]
    return kept, many


def _table(checks: Sequence[Check], width: int | None) -> list[Column]:
    columns = [
        column("CHECK", [check.name for check in checks]),
        Column("VERDICT", [Text(c.verdict.value, _COLOURS[c.verdict]) for c in checks]),
        column("EVIDENCE", [check.evidence for check in checks]),
    ]
    if width is None:
        return columns
    room = width - columns[0].width - columns[1].width - 4
    return [*columns[:2], columns[2].cut(max(room, _LEAST_EVIDENCE))]


def _print_failure(out: Console, check: Check) -> None:
    text = Text.assemble("\n", (check.name, "bold red"), f"  wanted: {check.question}")
    output.print_whole(out, text)
    for line in textwrap.wrap(check.evidence, min(out.width, 100) - 2):
        output.print_whole(out, Text(f"  {line}"))


def _summary(wanted: Wanted, checks: Sequence[Check]) -> Text:
    counts = Counter(check.verdict for check in checks)
    said = f"{counts[Verdict.PASS]} passed, {counts[Verdict.FAIL]} failed"
    said += f", {counts[Verdict.SKIP]} skipped in {sum(c.seconds for c in checks):.1f} s"
    verdict = ("not certified", "bold red") if counts[Verdict.FAIL] else ("certified", "bold green")
    return Text.assemble(f"{wanted.algorithm} at {wanted.address}: ", verdict, f": {said}")


def _next(wanted: Wanted, failed: Sequence[Check]) -> list[str]:
    base = f"tunesmith certify {shlex.quote(wanted.address)} --algorithm {wanted.algorithm}"
    if failed:
        return [f"{base} -o json  # for a bug report"]
    if wanted.quick:
        return [f"{base}  # without --quick: larger batches and histories"]
    return [] if wanted.restart_command else [f"{base} --restart-command '...'  # a real restart"]
