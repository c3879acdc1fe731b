# SPDX-License-Identifier: Apache-2.0
"""What a trial prints is stored while it still runs, and survives the trial's kill."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
from command_line import CommandLine, eventually

pytestmark = pytest.mark.integration

SCRIPT = """
import time
for step in range(5):
    print(f"loss={step}.5", flush=True)
open("printed", "w").close()
time.sleep(600)
"""


def stored(cli: CommandLine) -> list[str]:
    database = cli.home / "observations.db"
    if not database.exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            rows = connection.execute("select value from observation_rows order by seq").fetchall()
        except sqlite3.OperationalError:
            return []
    return [value for (value,) in rows]


def test_rows_are_stored_while_the_trial_runs(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    cli.write("trial.py", SCRIPT)
    cli.experiment("long", ["python3", "trial.py"], maxTrialCount=1, parallelTrialCount=1)
    process = cli.start("run", "long.yaml")
    eventually((cli.folder / "printed").exists, "the trial has printed")
    want = [f"{step}.5" for step in range(5)]
    eventually(lambda: stored(cli) == want, "all rows are stored while it still runs")
    (trial,) = cli.json("trials", "long")
    assert trial["state"] == "Running"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert stored(cli) == want
    eventually(lambda: not cli.leftovers(), "processes ended")
