# SPDX-License-Identifier: Apache-2.0
"""`why`: the state of an experiment or trial in sentences, with the next command."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.errors import NotPossible, NotThere, counted
from tunesmith.home import next_command
from tunesmith.life_cycle import refuse_resume
from tunesmith.views import (
    ExperimentView,
    TrialView,
    experiment_view,
    state_word,
    trial_view,
    trial_word,
)
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.experiment.decide import is_restartable
from tunesmith_controller.ports import Json

_LAST_LINES = 5
_LONGEST_LINE = 500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""Terminal control sequences (ECMA-48: CSI, OSC, two-character ones)."""
_UNWANTED = ("Failed", "MetricsUnavailable")
_STARTERS = "`tunesmith serve` or `tunesmith run FILE`"
_LOOKS = ("trials", "why")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What it is, why, the evidence, and commands that help next."""

    subject: str
    state: str
    sentences: tuple[str, ...]
    lines: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def explain_trial(
    trial: Trial, printed: Iterable[str] = (), owner: Json | None = None
) -> Explanation:
    """Why a trial is in its state, with the last of the lines it printed. `owner` is its
    Experiment."""
    view = trial_view(trial)
    experiment = None if owner is None else experiment_view(Experiment.parse(owner))
    sentences = [_trial_sentence(view), *_interruption(view, experiment)]
    if view.attempt > 1:
        sentences.append(f"This is attempt {view.attempt}; earlier ones were lost or interrupted.")
    lines = tuple(map(_readable, deque(printed, maxlen=_LAST_LINES)))
    commands: list[tuple[str, ...]] = [("logs", view.name)]
    if experiment is not None and view.is_paused:
        commands.append(("resume", experiment.name))
    elif experiment is not None and view.is_held:
        commands.append(("extend", experiment.name, "--parallel", str(experiment.parallel + 1)))
    return Explanation(
        f"trial {view.name}",
        trial_word(view),
        tuple(sentences),
        lines,
        tuple(next_command(*words, namespace=view.namespace) for words in commands),
    )


def _interruption(view: TrialView, experiment: ExperimentView | None) -> list[str]:
    """Why a trial that has not ended does not go on."""
    if view.is_over or not view.waiting:
        return []
    if view.is_held:
        count = f" is {experiment.parallel}" if experiment else " is smaller now"
        return [f"It is held back: parallelTrialCount{count}. It goes on when another trial ends."]
    return [f"It is held up: {view.waiting}"]


def _readable(line: str) -> str:
    """What a terminal would show of a line: progress bars draw over themselves, in colours."""
    shown = _ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2]
    return "".join(c if c.isprintable() else " " for c in shown)[:_LONGEST_LINE]


def _trial_sentence(view: TrialView) -> str:
    if view.is_over and view.state != "Succeeded":
        early = view.state == "EarlyStopped" and view.stop is not None
        return _early_stop(view) if early else view.message or view.reason
    if view.is_paused or view.is_held:
        return "Nothing of it runs; it will be run anew, in the same checkpoint directory."
    match view.state:
        case "Pending":
            return "It has been proposed; no controller has looked at it yet."
        case "Created":
            return "It has not been started yet."
        case "Running" if view.stop is not None:
            return f"It is being stopped. {_early_stop(view)}"
        case "Running":
            return "Its command is running."
    return f"It succeeded ({_figures(view)})."


def _early_stop(view: TrialView) -> str:
    """The decision with its figures, and the words of the rule."""
    stop = view.stop
    if stop is None:
        return view.message
    figures = (
        f"The rule {stop.rule} stopped it at step {stop.step}: "
        f"{stop.metric} was {stop.value}, the threshold {stop.threshold}"
    )
    peers = f" (of {stop.peers} ended trials)" if stop.peers else ""
    kept = f" Its figures are kept ({_figures(view)})." if view.metrics else ""
    return f"{figures}{peers}.{kept}"


def _figures(view: TrialView) -> str:
    return ", ".join(f"{name}={metric.latest}" for name, metric in view.metrics.items())


def explain_experiment(
    experiment: Experiment,
    trials: Sequence[Trial],
    suggestion: Json | None,
    controller: str,
) -> Explanation:
    """Why an experiment is in its state: its own condition, its service, its failed trials."""
    view = experiment_view(experiment, suggestion)
    views = [trial_view(trial) for trial in trials]
    sentences = [f"{view.reason}: {view.message}" if view.reason else "It has not been looked at."]
    if state_word(view) != view.state:
        # Its condition tells what it was before.
        sentences.clear()
    if view.is_over:
        sentences += _going_on(experiment)
    else:
        sentences += _hindrances(view, views, controller)
    sentences += [*_early_stops(views), *_failures(views)]
    return Explanation(
        f"experiment {view.name}", state_word(view), tuple(sentences), (), _commands(view, views)
    )


def _going_on(experiment: Experiment) -> list[str]:
    """Whether, and how, an experiment that has ended can go on."""
    if not is_restartable(experiment):
        return []
    try:
        refuse_resume(experiment)
    except NotPossible as refused:
        return [f"It can go on: {refused.hint}"]
    metadata = experiment.metadata
    return [f"It can go on: {next_command('resume', metadata.name, namespace=metadata.namespace)}"]


def _hindrances(view: ExperimentView, trials: Sequence[TrialView], controller: str) -> list[str]:
    """What keeps an unfinished experiment from going on."""
    found = []
    if view.stopping:
        found.append("It is being stopped: a person asked for its end.")
    elif view.paused:
        command = next_command("resume", view.name, namespace=view.namespace)
        found.append(f"It is paused: nothing of it runs until `{command}`.")
    if not controller:
        found.append(f"No controller is running: {_STARTERS} continues it.")
    elif not found:
        found += [f"It is held up: {view.waiting}"] if view.waiting else []
        waiting = [t for t in trials if not t.is_over and t.waiting and not t.is_held]
        found += [f"{trial.name}: {trial.waiting}" for trial in waiting[:3]]
    held = [trial.name for trial in trials if trial.is_held]
    if held and not view.paused:
        who = f"{counted(len(held), 'trial')} ({', '.join(held[:3])})"
        found.append(f"Held back: {who}; parallelTrialCount is {view.parallel}.")
    return found


def _early_stops(views: Sequence[TrialView]) -> list[str]:
    stopped = [view for view in views if view.state == "EarlyStopped"]
    if not stopped:
        return []
    rules = ", ".join(sorted({view.stop.rule for view in stopped if view.stop}))
    by = f" by {rules}" if rules else ""
    return [f"{counted(len(stopped), 'trial')} stopped early{by} (last: {stopped[-1].name})."]


def _commands(view: ExperimentView, trials: Sequence[TrialView]) -> tuple[str, ...]:
    wanted = [("trials", view.name)]
    bad = next((t for t in reversed(trials) if t.state in _UNWANTED), None)
    if bad is not None:
        wanted.append(("why", bad.name))
    if view.paused and not view.is_over:
        wanted.append(("resume", view.name))
    if view.best is not None:
        wanted.append(("best", view.name))
    return tuple(next_command(*words, namespace=view.namespace) for words in wanted)


def no_best(view: ExperimentView) -> NotThere:
    """The error for the best trial of an experiment that has none."""
    ended = ", ".join(f"{n} {state}" for state, n in view.counts.items())
    why = f"no trial has a result yet ({ended})" if ended else "it has no trials yet"
    if view.is_over:
        why = f"none of its trials gave {view.metric} ({ended or 'it has no trials'})"
    commands = [next_command(verb, view.name, namespace=view.namespace) for verb in _LOOKS]
    return NotThere("best trial of experiment", view.name, (), " or ".join(commands), why)


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
