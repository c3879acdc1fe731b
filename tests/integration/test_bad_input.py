# SPDX-License-Identifier: Apache-2.0
"""What users get wrong: one clear sentence, a condition with a reason, nothing hangs or stays."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


def run_script(cli: CommandLine, script: str, **spec: Any) -> tuple[int, str, list[Any]]:
    """Exit status, output and trials of an experiment whose trials run `script`."""
    cli.write("trial.py", script)
    cli.experiment("bad", ["python3", "trial.py"], **{"maxTrialCount": 2, **spec})
    done = cli.run("run", "bad.yaml", timeout=120)
    assert "Traceback" not in done.stderr
    eventually(lambda: not cli.leftovers(), f"processes ended: {cli.leftovers()}")
    return done.returncode, done.stdout + done.stderr, cli.json("trials", "bad")


def test_a_script_that_prints_nothing_is_metrics_unavailable_with_advice(cli: CommandLine) -> None:
    _, _, trials = run_script(cli, "pass")
    assert {trial["state"] for trial in trials} == {"MetricsUnavailable"}
    assert "'loss' was never reported" in trials[0]["message"]
    assert "nothing was printed" in trials[0]["message"]


def test_a_misspelt_metric_is_recognised(cli: CommandLine) -> None:
    _, _, trials = run_script(cli, "print('los=0.5')")
    assert "did you mean 'los'" in trials[0]["message"]


def test_nan_is_kept_for_people_and_never_wins(cli: CommandLine) -> None:
    status, _, trials = run_script(cli, "print('loss=nan')")
    assert {trial["state"] for trial in trials} == {"MetricsUnavailable"}
    assert "nan" in trials[0]["message"]
    assert cli.run("best", "bad").returncode == 2
    assert status == 0  # every trial ended and no limit on failures was set, as in Katib


def test_a_gigabyte_of_output_is_collected_without_trouble(cli: CommandLine) -> None:
    script = """
import sys
line = b"x" * 1023 + b"\\n"
for _ in range(1024):
    sys.stdout.buffer.write(line * 1024)
print("loss=0.25")
"""
    _, _, trials = run_script(cli, script, maxTrialCount=1, parallelTrialCount=1)
    assert trials[0]["metrics"]["loss"]["latest"] == 0.25


def test_exit_137_fails_with_the_likely_cause(cli: CommandLine) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    status, output, trials = run_script(cli, script, maxFailedTrialCount=1)
    assert status == 1
    assert "memory" in trials[0]["message"]
    assert "maxFailedTrialCount" in output


def test_children_that_ignore_sigterm_do_not_outlive_their_trial(cli: CommandLine) -> None:
    script = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    time.sleep(600)
print("loss=1.0", flush=True)
"""
    _, _, trials = run_script(cli, script)
    assert {trial["state"] for trial in trials} == {"Succeeded"}


def test_running_trials_are_stopped_when_the_goal_is_reached(cli: CommandLine) -> None:
    script = """
import os, signal, sys, time
first = not os.path.exists("second")
open("second", "w").close()
if first:
    while not os.path.exists("ignoring"):
        time.sleep(0.01)
    print("loss=0.0", flush=True)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("ignoring", "w").close()
    time.sleep(600)
"""
    cli.write("trial.py", script)
    objective = {"type": "minimize", "objectiveMetricName": "loss", "goal": 0.0}
    cli.experiment("goal", ["python3", "trial.py"], objective=objective, maxTrialCount=8)
    done = cli.run("run", "goal.yaml", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    states = {trial["state"] for trial in cli.json("trials", "goal")}
    assert states == {"Succeeded", "Killed"}
    assert not cli.leftovers()


def test_a_command_that_does_not_exist_is_one_sentence(cli: CommandLine) -> None:
    cli.experiment("typo", ["pyhton3", "trial.py"], maxFailedTrialCount=1)
    done = cli.run("run", "typo.yaml")
    assert done.returncode == 1
    (trial, *_) = cli.json("trials", "typo")
    assert trial["state"] == "Failed"
    assert "pyhton3" in trial["message"]
    assert "pyhton3" in cli.run("why", "typo").stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("just a text", "Experiment"),
        ("kind: Pod\napiVersion: v1\n", "Pod"),
        ("a: [1, 2", "not valid YAML"),
        ("kind: Experiment\napiVersion: kubeflow.org/v1beta1\nspec: 3\n", "spec"),
        ("a: 1\na: 2\n", "a"),
        ("\x00\x01", "bad.yaml"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused_in_words(
    cli: CommandLine, text: str, sentence: str
) -> None:
    cli.write("bad.yaml", text)
    for verb in ("run", "validate"):
        done = cli.run(verb, "bad.yaml")
        assert done.returncode == 2, (verb, done.stdout, done.stderr)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_every_broken_parameter_is_named_with_its_line(cli: CommandLine) -> None:
    parameters = [
        {"name": "x", "parameterType": "double", "feasibleSpace": {"min": "4", "max": "1"}},
        {"name": "n", "parameterType": "int", "feasibleSpace": {"min": "one", "max": "9"}},
        {"name": "c", "parameterType": "categorical", "feasibleSpace": {"list": []}},
    ]
    path = cli.experiment("broken", ["python3", "trial.py"], parameters=parameters)
    done = cli.run("validate", str(path))
    assert done.returncode == 2
    for field in ("parameters[0]", "parameters[1]", "parameters[2]"):
        assert field in done.stderr
    assert "broken.yaml:" in done.stderr


def test_unknown_fields_are_warned_of_and_kept(cli: CommandLine) -> None:
    path = cli.experiment("odd", ["python3", "-c", "print('loss=1')"], paralelTrialCount=9)
    for verb in ("validate", "run"):
        done = cli.run(verb, str(path))
        assert done.returncode == 0
        assert "paralelTrialCount" in done.stdout + done.stderr


def test_a_missing_file_and_a_missing_name_say_so(cli: CommandLine) -> None:
    done = cli.run("run", "nowhere.yaml")
    assert (done.returncode, "nowhere.yaml" in done.stderr) == (2, True)
    done = cli.run("show", "nobody")
    assert (done.returncode, "nobody" in done.stderr) == (2, True)


def test_an_unusable_state_directory_says_so(cli: CommandLine) -> None:
    cli.home.write_text("a file, not a directory")
    done = cli.run("ls")
    assert done.returncode == 3
    assert str(cli.home) in done.stderr and "TUNESMITH_HOME" in done.stderr


def test_sigterm_stops_the_trials_and_the_same_command_continues(cli: CommandLine) -> None:
    script = """
import os, time
attempt = os.environ["TUNESMITH_ATTEMPT"]
open(f"started-{attempt}", "w").close()
if attempt == "1":
    time.sleep(600)
print("loss=1.0")
"""
    cli.write("trial.py", script)
    cli.experiment("long", ["python3", "trial.py"], maxTrialCount=1, parallelTrialCount=1)
    process = cli.start("run", "long.yaml")
    eventually((cli.folder / "started-1").exists, "the trial runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    eventually(lambda: not cli.leftovers(), f"processes ended: {cli.leftovers()}")
    assert cli.run("run", "long.yaml").returncode == 0
    (trial,) = cli.json("trials", "long")
    assert (trial["state"], trial["attempt"]) == ("Succeeded", 2)
