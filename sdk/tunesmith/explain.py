# SPDX-License-Identifier: Apache-2.0
"""`why`: the state of an experiment or trial in sentences, with the next command."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.home import next_command
from tunesmith.log_tail import follow_lines
from tunesmith.views import ExperimentView, TrialView, experiment_view, trial_view
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.ports import Json

_LAST_LINES = 5
_UNWANTED = ("Failed", "MetricsUnavailable")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What it is, why, the evidence, and commands that help next."""

    subject: str
    state: str
    sentences: tuple[str, ...]
    lines: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def explain_trial(trial: Trial, output: Path) -> Explanation:
    """Why a trial is in its state, with the last lines it printed."""
    view = trial_view(trial)
    sentences = [_trial_sentence(view)]
    if view.waiting and not view.is_over:
        sentences.append(f"It is held up: {view.waiting}")
    if view.attempt > 1:
        sentences.append(f"This is attempt {view.attempt}; earlier ones were lost or interrupted.")
    lines = tuple(deque(follow_lines(output, None), maxlen=_LAST_LINES))
    command = next_command("logs", view.name, namespace=view.namespace)
    return Explanation(f"trial {view.name}", view.state, tuple(sentences), lines, (command,))


def _trial_sentence(view: TrialView) -> str:
    match view.state:
        case "Pending":
            return "It has been proposed; no controller has looked at it yet."
        case "Created":
            return "It has not been started yet."
        case "Running":
            return "Its command is running."
        case "Succeeded":
            return f"It succeeded ({_figures(view)})."
    return view.message or view.reason


def _figures(view: TrialView) -> str:
    return ", ".join(f"{name}={metric.latest}" for name, metric in view.metrics.items())


def explain_experiment(
    experiment: Experiment,
    trials: Sequence[Trial],
    suggestion: Json | None,
    controller_pid: int | None,
) -> Explanation:
    """Why an experiment is in its state: its own condition, its service, its failed trials."""
    view = experiment_view(experiment, suggestion)
    views = [trial_view(trial) for trial in trials]
    sentences = [f"{view.reason}: {view.message}" if view.reason else "It has not been looked at."]
    if not view.is_over:
        sentences += _hindrances(view, views, controller_pid)
    sentences += _failures(views)
    return Explanation(
        f"experiment {view.name}", view.state, tuple(sentences), (), _commands(view, views)
    )


def _hindrances(
    view: ExperimentView, trials: Sequence[TrialView], controller_pid: int | None
) -> list[str]:
    """What keeps an unfinished experiment from going on."""
    if view.paused:
        return ["It is paused: its trials were stopped. Run its file again to continue."]
    if controller_pid is None:
        return ["No controller is running: `tunesmith run FILE` continues it."]
    waiting = [trial for trial in trials if not trial.is_over and trial.waiting]
    trouble = [f"{view.waiting[0].upper()}{view.waiting[1:]}."] if view.waiting else []
    return [*trouble, *(f"{trial.name}: {trial.waiting}" for trial in waiting[:3])]


def _commands(view: ExperimentView, trials: Sequence[TrialView]) -> tuple[str, ...]:
    wanted = [("trials", view.name)]
    bad = next((t for t in reversed(trials) if t.state in _UNWANTED), None)
    if bad is not None:
        wanted.append(("why", bad.name))
    if view.best is not None:
        wanted.append(("best", view.name))
    return tuple(next_command(*words, namespace=view.namespace) for words in wanted)


def _failures(views: Sequence[TrialView]) -> list[str]:
    """The failures, grouped by what they say; the most frequent three."""
    groups: dict[str, list[TrialView]] = {}
    for view in views:
        if view.state in _UNWANTED:
            groups.setdefault(view.message, []).append(view)
    return [
        f"{len(found)} trial{'s' if len(found) > 1 else ''} ended {found[0].state} "
        f"(last: {found[-1].name}): {message}"
        for message, found in sorted(groups.items(), key=lambda item: -len(item[1]))[:3]
    ]
