# SPDX-License-Identifier: Apache-2.0
"""`why`: the state of an experiment or trial in sentences, with the next command."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.log_tail import follow_lines
from tunesmith.views import TrialView, experiment_view, trial_view
from tunesmith_api.conditions import find
from tunesmith_api.resources import Experiment, Suggestion, Trial
from tunesmith_controller.ports import Json

_LAST_LINES = 5


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
        sentences.append(view.waiting)
    if view.attempt > 1:
        sentences.append(f"This is attempt {view.attempt}; earlier ones were lost or interrupted.")
    lines = tuple(deque(follow_lines(output, None), maxlen=_LAST_LINES))
    return Explanation(
        f"trial {view.name}", view.state, tuple(sentences), lines, (f"tunesmith logs {view.name}",)
    )


def _trial_sentence(view: TrialView) -> str:
    if view.state == "Succeeded":
        return f"It succeeded ({_figures(view)})."
    if view.state == "Pending":
        return "It has been proposed; no controller has looked at it yet."
    if view.message and view.reason != "TrialCreated":
        return f"{view.reason}: {view.message}"
    return "It waits to be started." if view.state == "Created" else view.message


def _figures(view: TrialView) -> str:
    return ", ".join(f"{name}={metric.latest}" for name, metric in view.metrics.items())


def explain_experiment(
    experiment: Experiment,
    trials: Sequence[Trial],
    suggestion: Json | None,
    controller_pid: int | None,
) -> Explanation:
    """Why an experiment is in its state: its own condition, its service, its failed trials."""
    view = experiment_view(experiment)
    views = [trial_view(trial) for trial in trials]
    sentences = [f"{view.reason}: {view.message}" if view.reason else "It has not been looked at."]
    commands = [f"tunesmith trials {view.name}"]
    if view.paused and not view.is_over:
        sentences.append("It is paused: its trials were stopped. Run its file again to continue.")
    if not view.is_over and suggestion is not None:
        sentences += _service(Suggestion.parse(suggestion))
    sentences += _failures(views)
    waiting = [t for t in views if not t.is_over and t.waiting]
    sentences += [f"{t.name}: {t.waiting}" for t in waiting[:3]]
    if not view.is_over and controller_pid is None and not view.paused:
        sentences.append("No controller is running: `tunesmith run FILE` continues it.")
    bad = next((t for t in reversed(views) if t.state in ("Failed", "MetricsUnavailable")), None)
    if bad is not None:
        commands.append(f"tunesmith why {bad.name}")
    if view.best is not None:
        commands.append(f"tunesmith best {view.name}")
    return Explanation(f"experiment {view.name}", view.state, tuple(sentences), (), tuple(commands))


def _service(suggestion: Suggestion) -> list[str]:
    conditions = suggestion.status.conditions
    failed, ready = find(conditions, "Failed"), find(conditions, "DeploymentReady")
    if failed is not None:
        return [f"The suggestion service failed: {failed.message}"]
    if ready is not None and ready.status != "True":
        return [f"The suggestion service is not ready: {ready.message}"]
    return []


def _failures(views: Sequence[TrialView]) -> list[str]:
    """The failures, grouped by what they say."""
    groups: dict[str, list[TrialView]] = {}
    for view in views:
        if view.state in ("Failed", "MetricsUnavailable"):
            groups.setdefault(view.message, []).append(view)
    return [
        f"{len(found)} trial{'s' if len(found) > 1 else ''} ended {found[0].state} "
        f"(last: {found[-1].name}): {message}"
        for message, found in sorted(groups.items(), key=lambda item: -len(item[1]))[:3]
    ]
