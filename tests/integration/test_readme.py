# SPDX-License-Identifier: Apache-2.0
"""README tells the truth: its example is valid, runs, and its commands work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.integration

README = Path(__file__).parents[2] / "README.md"


def test_the_example_runs_with_the_commands_shown(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    text = README.read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    cli.write("quick.yaml", found[1])
    done = cli.run("run", "quick.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(cli.json("trials", "quick")) == 20
    best = cli.json("best", "quick")
    assert best["objective"]["value"] < 1.0
    commands = re.findall(r"^tunesmith (best|why) (.*?) *#", text, re.MULTILINE)
    assert len(commands) == 2
    for verb, rest in commands:
        shown = cli.run(verb, *rest.split())
        assert shown.returncode == 0 and shown.stdout
