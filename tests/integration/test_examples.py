# SPDX-License-Identifier: Apache-2.0
"""Every example in examples/digits runs to its result with the real command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
ALL = sorted(path.name for path in EXAMPLES.glob("*.yaml"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    yield CommandLine(tmp_path, tmp_path / "home", extra={"OMP_NUM_THREADS": "1"})


def trials_of(cli: CommandLine, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("trials", name)
    return found


@pytest.mark.parametrize("name", ALL)
def test_an_example_is_valid_and_finds_a_best_trial(cli: CommandLine, name: str) -> None:
    ran = cli.run("run", str(EXAMPLES / name), timeout=180)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    experiment = f"digits-{name.removesuffix('.yaml')}"
    trials = trials_of(cli, experiment)
    assert {trial["state"] for trial in trials} <= {"Succeeded", "EarlyStopped"}
    best = cli.json("best", experiment)
    assert 0.3 < best["objective"]["value"] <= 1.0


def test_early_stopped_trials_keep_their_metrics_and_say_why(cli: CommandLine) -> None:
    assert cli.run("run", str(EXAMPLES / "medianstop.yaml"), timeout=180).returncode == 0
    stopped = [t for t in trials_of(cli, "digits-medianstop") if t["state"] == "EarlyStopped"]
    assert stopped
    for trial in stopped:
        assert trial["metrics"]["accuracy"]
    why = cli.run("why", stopped[0]["name"]).stdout
    assert "median" in why


def test_an_experiment_that_ended_goes_on_with_a_larger_budget(cli: CommandLine) -> None:
    file = str(EXAMPLES / "resume.yaml")
    assert cli.run("run", file).returncode == 0
    before = trials_of(cli, "digits-resume")
    extended = cli.run("extend", "digits-resume", "--trials", "+2")
    assert extended.returncode == 0, extended.stderr
    ran = cli.run("run", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    after = trials_of(cli, "digits-resume")
    assert len(after) == len(before) + 2
    assert after[: len(before)] == before


def test_an_interrupted_trial_goes_on_from_its_checkpoint(cli: CommandLine) -> None:
    serving = cli.start("serve")
    try:
        eventually((cli.home / "api.json").exists, "the API is up")
        created = cli.run("create", str(EXAMPLES / "checkpoint.yaml"))
        assert created.returncode == 0, created.stderr
        name = "digits-checkpoint"
        kept = (cli.home / "trials").glob
        eventually(lambda: any(kept("*/checkpoint/last.npz")), "a checkpoint")
        assert cli.run("pause", name).returncode == 0
        eventually(lambda: cli.json("show", name)["paused"], "paused")
        assert cli.run("resume", name).returncode == 0
        assert cli.run("watch", name, timeout=120).returncode == 0
    finally:
        serving.terminate()
        serving.wait(30)
    again = [t for t in trials_of(cli, name) if t["attempt"] == 2]
    assert again and all(trial["state"] == "Succeeded" for trial in again)
    logs = "".join(cli.run("logs", trial["name"]).stdout for trial in again)
    assert "goes on after epoch" in logs
