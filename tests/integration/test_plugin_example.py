# SPDX-License-Identifier: Apache-2.0
"""examples/plugin as its reader uses it: installed, listed, run, proved and certified."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "hill-climbing"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples: building leaves files."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("digits", "plugin"):
        shutil.copytree(EXAMPLES / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the package; without the network, so without isolation and dependencies."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(target), str(examples / "plugin")],
        check=True,
    )
    return target


@pytest.fixture
def cli(tmp_path: Path, installed: Path) -> CommandLine:
    extra = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return CommandLine(tmp_path, tmp_path / "home", extra=extra)


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        yield Path(name) / "s.sock"


def test_the_installed_algorithm_is_listed_with_its_settings(cli: CommandLine) -> None:
    assert f"  {NAME} " in cli.run("algorithms").stdout
    found = cli.json("algorithms", NAME)
    settings = {setting["name"]: setting["default"] for setting in found["settings"]}
    assert settings == {"n_startup_trials": "8", "radius": "0.3"}


def test_its_experiment_runs_to_its_best_trial(cli: CommandLine, examples: Path) -> None:
    ran = cli.run("run", str(examples / "plugin" / "digits.yaml"), timeout=180)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    shown = cli.json("show", "digits-hill-climbing")
    assert (shown["algorithm"], shown["trials"]) == (NAME, {"Succeeded": 16})
    assert shown["best"]["objective"]["value"] > 0.9


def test_a_bad_setting_of_it_is_refused_before_anything_runs(
    cli: CommandLine, examples: Path
) -> None:
    file = examples / "plugin" / "digits.yaml"
    bad = cli.write("bad.yaml", file.read_text().replace('"0.2"', '"-1"'))
    done = cli.run("validate", str(bad))
    assert done.returncode == 2
    assert "setting 'radius' is '-1'; it must be a number > 0" in done.stderr


def test_it_keeps_the_contract(installed: Path, examples: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=examples / "plugin",
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_its_service_is_certified(cli: CommandLine, socket: Path) -> None:
    serving = cli.start("suggestion", "--listen", f"unix:{socket}")
    try:
        eventually(socket.exists, "it listens")
        found = cli.json("certify", f"unix:{socket}", "--algorithm", NAME, "--quick")
    finally:
        serving.terminate()
        assert serving.wait(10) == 0
    assert found["certified"] and found["counts"]["fail"] == 0
