# SPDX-License-Identifier: Apache-2.0
"""What people and programs are shown of experiments and trials."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import given
import pytest
from rich.console import Console

import tunesmith
from tunesmith.cli import output, run_screen, run_view, tables
from tunesmith.explain import explain_experiment, explain_trial, no_best
from tunesmith.home import state_home, submitter_path
from tunesmith.log_tail import follow_lines
from tunesmith.views import ExperimentView, TrialView, experiment_view, trial_view
from tunesmith_api import names
from tunesmith_api.resources import Experiment, Trial
from tunesmith_controller.trial.decide import HELD, PAUSED

RUNNING = given.conditions("Created", "Running")


def an_experiment(**status: Any) -> ExperimentView:
    return experiment_view(given.experiment(**status))


def rendered(what: Any, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(what)
    return out.getvalue()


def ended(trial: Trial, message: str) -> Trial:
    """The trial with a message in its last condition."""
    last = trial.status.conditions[-1].with_(message=message)
    conditions = (*trial.status.conditions[:-1], last)
    return trial.with_(status=trial.status.with_(conditions=conditions))


def test_the_public_names_are_these_and_all_resolve() -> None:
    assert tunesmith.__all__ == [
        "ChangedExperiment",
        "Client",
        "InvalidExperiment",
        "NotPossible",
        "NotThere",
        "StateUnusable",
        "TunesmithError",
        "checkpoint_dir",
        "report",
        "should_stop",
    ]
    assert all(getattr(tunesmith, name) is not None for name in tunesmith.__all__)


def test_a_trial_has_stable_keys_for_programs_and_no_nan() -> None:
    view = trial_view(given.trial(3, "Succeeded", loss=0.5))
    text = json.dumps(view.json(), allow_nan=False)
    assert list(json.loads(text)) == [
        "name",
        "ordinal",
        "attempt",
        "state",
        "parameters",
        "metrics",
        "reason",
        "message",
        "earlyStop",
        "startTime",
        "completionTime",
    ]
    assert view.json()["metrics"] == {"loss": {"min": 0.5, "max": 0.5, "latest": 0.5}}


def test_a_figure_that_is_no_finite_number_stays_text() -> None:
    trial = given.trial(0, "MetricsUnavailable")
    metric = {"name": "loss", "min": "unavailable", "max": "unavailable", "latest": "nan"}
    observed = Trial.parse(trial.json() | {"status": {"observation": {"metrics": [metric]}}})
    view = trial_view(observed)
    assert view.json()["metrics"]["loss"]["latest"] == "nan"
    assert view.value is None


@pytest.mark.parametrize(
    ("parameters", "arguments", "environment"),
    [
        ({"lr": "0.1"}, "--lr=0.1", "export LR=0.1"),
        ({"opt": "a b"}, "'--opt=a b'", "export OPT='a b'"),
        ({"x-y": "$(rm)"}, "'--x-y=$(rm)'", "export X_Y='$(rm)'"),
        ({"1st": "2"}, "--1st=2", "export _1ST=2"),
    ],
)
def test_parameters_paste_safely_into_a_shell(
    parameters: dict[str, str], arguments: str, environment: str
) -> None:
    assert output.args_text(parameters) == arguments
    assert output.env_text(parameters) == environment


def test_the_table_of_trials_fits_an_ordinary_terminal() -> None:
    trials = [trial_view(given.trial(n, "Succeeded", loss=n / 7)) for n in range(3)]
    lines = rendered(tables.trials_table(trials, "loss")).splitlines()
    assert len(lines) == 4
    assert all(trial.name in line for trial, line in zip(trials, lines[1:], strict=True))


def test_wide_shows_attempts_and_messages() -> None:
    view = trial_view(ended(given.trial(0, "Failed", attempt=2), "exit code 3"))
    shown = rendered(tables.trials_table([view], "loss", wide=True), 160)
    assert "exit code 3" in shown and "ATTEMPT" in shown


def lines_of(*updates: tuple[ExperimentView, list[TrialView]], capsys: Any) -> list[str]:
    view = run_view.LineView()
    for experiment, trials in updates:
        view.update(experiment, trials)
    return str(capsys.readouterr().out).splitlines()


def test_without_a_terminal_each_change_is_one_line_and_nothing_is_said_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = [trial_view(given.trial(0, "Running"))]
    done = [trial_view(given.trial(0, "Succeeded", loss=0.25))]
    one = an_experiment(trialsRunning=1)
    over = an_experiment(
        trialsSucceeded=1, conditions=given.conditions("Created", "Running", "Succeeded")
    )
    lines = lines_of((one, running), (one, running), (over, done), (over, done), capsys=capsys)
    assert [line.split()[0] for line in lines] == ["trial", "trial", "experiment"]
    assert "succeeded loss=0.25 (1/4)" in lines[1]


def test_the_live_screen_shows_progress_running_trials_and_the_best_first() -> None:
    trials = [trial_view(given.trial(n, "Succeeded", loss=4.0 - n)) for n in range(4)]
    trials.append(trial_view(given.trial(4, "Running")))
    experiment = an_experiment(trialsSucceeded=4, trialsRunning=1, max_trials=9)
    shown = rendered(run_screen.run_screen(experiment, trials))
    assert "4/9" in shown and "best so far" in shown
    assert shown.index(trials[4].name) < shown.index(trials[3].name) < shown.index(trials[0].name)


def test_the_sparkline_rises_as_the_search_improves() -> None:
    trials = [trial_view(given.trial(n, "Succeeded", loss=4.0 - n)) for n in range(4)]
    spark = run_screen.sparkline(an_experiment(), trials)
    assert list(spark) == sorted(spark) and spark[0] != spark[-1]
    assert run_screen.sparkline(an_experiment(), trials[:2]) == ""


# ---- why ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (given.trial(0, "Pending"), "no controller has looked"),
        (given.trial(0, "Created", waiting="waiting for 1 CPU"), "waiting for 1 CPU"),
        (ended(given.trial(0, "Failed"), "exit code 3"), "exit code 3"),
        (ended(given.trial(0, "MetricsUnavailable"), "never reported"), "never reported"),
        (given.trial(0, "Succeeded", loss=0.5), "loss=0.5"),
        (given.trial(0, "Running", attempt=3), "attempt 3"),
    ],
)
def test_why_explains_every_state_of_a_trial(trial: Trial, words: str) -> None:
    found = explain_trial(trial)
    assert words in " ".join(found.sentences)
    assert found.commands == (f"tunesmith logs {trial.metadata.name}",)


def test_why_shows_the_last_lines_of_a_trial(tmp_path: Path) -> None:
    printed = tmp_path / "output.log"
    printed.write_text("".join(f"line {n}\n" for n in range(20)))
    found = explain_trial(given.trial(0, "Failed"), follow_lines(printed, None))
    assert found.lines == tuple(f"line {n}" for n in range(15, 20))


def test_why_groups_failures_and_names_the_last_trial() -> None:
    trials = [ended(given.trial(n, "Failed"), "exit code 3") for n in range(3)]
    failed = given.experiment(conditions=given.conditions("Created", "Failed"))
    found = explain_experiment(failed, trials, None, "")
    said = " ".join(found.sentences)
    assert "3 trials ended Failed" in said and "exit code 3" in said
    assert f"tunesmith why {trials[-1].metadata.name}" in found.commands


def test_why_says_that_nobody_controls_an_unfinished_experiment() -> None:
    unfinished = given.experiment(conditions=given.conditions("Created", "Running"))
    said = " ".join(explain_experiment(unfinished, [], None, "").sentences)
    assert "No controller is running" in said
    assert "No controller" not in " ".join(
        explain_experiment(unfinished, [], None, "process 123").sentences
    )


def test_why_names_a_service_that_is_not_ready() -> None:
    unready = {"type": "DeploymentReady", "status": "False", "message": "it was killed"}
    conditions = [*given.conditions("Created"), unready, *given.conditions("Running")]
    suggestion = given.suggestion().json() | {"status": {"conditions": conditions}}
    one = given.experiment(conditions=given.conditions("Created", "Running"))
    said = " ".join(explain_experiment(one, [], suggestion, "process 1").sentences)
    assert "It is held up: it was killed" in said


def marked(experiment: Experiment, *annotations: str) -> Experiment:
    marks = dict.fromkeys(annotations, "true")
    return experiment.with_(metadata=experiment.metadata.with_(annotations=marks))


def said_of(experiment: Experiment, *trials: Trial, controller: str = "process 1") -> str:
    found = explain_experiment(experiment, trials, None, controller)
    return " ".join((found.state, *found.sentences, *found.commands))


STOP = {
    "rule": "medianstop",
    "metric": "loss",
    "value": "0.75",
    "threshold": "0.5",
    "step": 4,
    "peers": 3,
}


def test_an_early_stop_is_explained_by_its_record() -> None:
    trial = given.trial(0, "EarlyStopped", stopping=STOP)
    (said,) = explain_trial(trial).sentences
    assert said == (
        "The rule medianstop stopped it at step 4: loss was 0.75, the threshold 0.5 "
        "(of 3 ended trials)."
    )
    assert "1 trial stopped early by medianstop" in said_of(given.experiment(), trial)
    assert trial_view(trial).json()["earlyStop"] == {**STOP, "value": 0.75, "threshold": 0.5}


def test_an_early_stop_without_a_record_keeps_the_words_of_its_condition() -> None:
    trial = ended(given.trial(0, "EarlyStopped"), "a rule of the service was met")
    assert explain_trial(trial).sentences == ("a rule of the service was met",)


def test_a_trial_held_back_names_the_parallelism_and_how_to_raise_it() -> None:
    trial = given.trial(0, "Running", waiting=HELD)
    found = explain_trial(trial, (), given.experiment(parallel=1).json())
    assert (found.state, "parallelTrialCount is 1" in " ".join(found.sentences)) == ("Held", True)
    assert "tunesmith extend quick --parallel 2" in found.commands
    assert "Held back: 1 trial" in said_of(given.experiment(parallel=1), trial)


def test_a_paused_experiment_and_its_trials_say_how_to_resume() -> None:
    paused = marked(given.experiment(conditions=RUNNING), names.ANNOTATION_PAUSED)
    assert "Paused" in said_of(paused) and "tunesmith resume quick" in said_of(paused)
    assert "Experiment is running" not in said_of(paused)
    trial = given.trial(0, "Running", waiting=PAUSED)
    found = explain_trial(trial, (), paused.json())
    assert (found.state, found.commands[-1]) == ("Paused", "tunesmith resume quick")


def test_a_stop_that_is_asked_for_shows_until_it_is_carried_out() -> None:
    stopping = marked(given.experiment(conditions=RUNNING), names.ANNOTATION_STOPPED)
    said = said_of(stopping, controller="")
    assert "Stopping" in said and "No controller is running" in said


@pytest.mark.parametrize(
    ("reason", "policy", "said"),
    [
        ("ExperimentStopped", "LongRunning", "It can go on: tunesmith resume quick"),
        ("ExperimentMaxTrialsReached", "FromVolume", "It can go on: tunesmith extend quick"),
        ("ExperimentMaxTrialsReached", "Never", ""),
        ("ExperimentGoalReached", "LongRunning", ""),
    ],
)
def test_an_end_says_whether_it_can_go_on(reason: str, policy: str, said: str) -> None:
    count = 4 if reason == "ExperimentMaxTrialsReached" else 2
    over = [{"type": "Succeeded", "status": "True", "reason": reason, "message": "over"}]
    one = given.experiment(conditions=over, trialsSucceeded=count)
    one = one.with_(spec=one.spec.with_(resume_policy=policy))
    assert ("It can go on" in said_of(one)) == bool(said)
    assert said in said_of(one)


def test_the_last_hint_is_best_only_when_there_is_one() -> None:
    assert "tunesmith best" not in said_of(given.experiment(conditions=RUNNING))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, "it has no trials yet"),
        ({"trialsRunning": 2}, "no trial has a result yet (2 Running)"),
        (
            {"trialsFailed": 3, "conditions": given.conditions("Failed")},
            "none of its trials gave loss (3 Failed)",
        ),
    ],
)
def test_no_best_trial_says_why_and_where_to_look(status: dict[str, Any], words: str) -> None:
    error = no_best(an_experiment(**status))
    assert words in error.message
    assert error.hint == "tunesmith trials quick or tunesmith why quick"


# ---- where state lives, where programs come from ------------------------------------------------


def test_state_lives_where_the_user_says_else_in_the_platforms_place() -> None:
    assert state_home({"TUNESMITH_HOME": "/a/b"}) == Path("/a/b")
    assert state_home({"XDG_STATE_HOME": "/s"}, "linux") == Path("/s/tunesmith")
    assert state_home({}, "linux") == Path.home() / ".local" / "state" / "tunesmith"
    assert state_home({}, "darwin").parts[-2:] == ("Application Support", "tunesmith")


def test_an_activated_environment_comes_first_on_the_path() -> None:
    env = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/venv"}
    assert submitter_path(env) == "/venv/bin:/usr/bin:/bin"
    assert submitter_path({**env, "PATH": "/venv/bin:/bin"}) == "/venv/bin:/bin"


def test_lines_of_a_log_come_whole_and_the_last_one_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_bytes(b"one\ntwo\r\n\xff\nlast")
    assert list(follow_lines(path, None)) == ["one", "two", "\ufffd", "last"]
    assert list(follow_lines(tmp_path / "none", None)) == []


def test_a_followed_log_gives_what_is_written_before_the_trial_ends(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    path.write_text("first\nsec")
    looks: list[int] = []

    def is_over() -> bool:
        looks.append(1)
        if len(looks) == 1:
            with path.open("a") as stream:
                stream.write("ond\nthird")
        return len(looks) > 1

    assert list(follow_lines(path, is_over, poll_s=0.01)) == ["first", "second", "third"]
