# SPDX-License-Identifier: Apache-2.0
"""State directories with names that mean something to URLs, shells and sockets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from command_line import CommandLine

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "name",
    ["p%20?q#h;a=1&b", 'it\'s "a" $HOME', "größe/日本", "new\nline", "/".join(["d" * 50] * 5)],
    ids=["URL", "shell", "Unicode", "two lines", "too deep for a socket"],
)
def test_an_experiment_runs_below_any_name(tmp_path: Path, name: str) -> None:
    line = CommandLine(tmp_path, tmp_path / name)
    program = "print('loss=1')"
    line.experiment("odd", [sys.executable, "-c", program], maxTrialCount=1, parallelTrialCount=1)
    done = line.run("run", "odd.yaml")
    assert done.returncode == 0, done.stderr
    assert {entry.name for entry in line.home.iterdir()} >= {"objects.db", "observations.db"}
    assert "Warning" not in done.stderr


def test_a_name_that_is_no_text_is_refused_at_once(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")))
    line.experiment("odd", ["true"])
    done = line.run("run", "odd.yaml", timeout=20)
    assert (done.returncode, "is no valid UTF-8" in done.stderr) == (3, True)
