# SPDX-License-Identifier: Apache-2.0
"""kill -9 of `tunesmith run` at random moments: the same search, nothing twice, nothing lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

from tunesmith.client import Client

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

# Writes one line per start, prints three losses, then may wait for its gate.
SCRIPT = """
import os, sys, time
x = float(sys.argv[1].split("=")[1])
name = os.environ["KATIB_TRIAL_NAME"]
with open("starts.txt", "a") as starts:
    starts.write(name + "\\n")
for step in range(3):
    print(f"loss={(x - 1) ** 2 + 2 - step}", flush=True)
while os.path.isdir("gates") and not os.path.exists(f"gates/{name}"):
    time.sleep(0.02)
"""


def prepared(folder: Path, **spec: Any) -> CommandLine:
    folder.mkdir()
    cli = CommandLine(folder, folder / "home")
    cli.write("trial.py", SCRIPT)
    cli.experiment("killed", ["python3", "trial.py"], algorithm="tpe", **spec)
    return cli


def outcome(cli: CommandLine) -> list[tuple[Any, ...]]:
    """What must not depend on kills: ordinal, attempt, state, parameters, metrics."""
    trials = cli.json("trials", "killed")
    keys = ("ordinal", "attempt", "state", "parameters", "metrics")
    return [tuple(trial[key] for key in keys) for trial in trials]


def best_values(cli: CommandLine) -> Any:
    best = cli.json("best", "killed")
    return best["parameters"], best["metrics"]


def assert_nothing_twice_or_lost(cli: CommandLine, trials: int) -> None:
    starts = Counter((cli.folder / "starts.txt").read_text().split())
    assert len(starts) == trials
    assert set(starts.values()) == {1}
    with sqlite3.connect(f"file:{cli.home}/observations.db?mode=ro", uri=True) as database:
        counted = "select trial_uid, count(*) from observation_rows group by 1"
        rows = database.execute(counted).fetchall()
    assert [count for _, count in rows] == [3] * trials
    eventually(lambda: not cli.leftovers(), f"processes ended: {cli.leftovers()}")


def kill_at_random(cli: CommandLine, kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        process = cli.start("run", "killed.yaml")
        time.sleep(chance.uniform(0.2, 2.5))
        process.kill()
        process.wait()


def test_with_one_at_a_time_twenty_kills_change_nothing(tmp_path: Path) -> None:
    undisturbed = prepared(tmp_path / "undisturbed", maxTrialCount=30, parallelTrialCount=1)
    done = undisturbed.run("run", "killed.yaml", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    killed = prepared(tmp_path / "killed", maxTrialCount=30, parallelTrialCount=1)
    kill_at_random(killed, 20, random.Random(20261123))
    done = killed.run("run", "killed.yaml", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(killed) == outcome(undisturbed)
    assert best_values(killed) == best_values(undisturbed)
    assert_nothing_twice_or_lost(killed, 30)


class Gates:
    """Ends one running trial at a time and waits for the refill, whoever controls meanwhile."""

    def __init__(self, cli: CommandLine, kills: random.Random | None) -> None:
        self.cli = cli
        self.kills = kills
        self.client = Client(cli.home)
        self.process: subprocess.Popen[str] | None = None
        (cli.folder / "gates").mkdir()

    def ensure_run(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = self.cli.start("run", "killed.yaml")

    def maybe_kill(self) -> None:
        if self.kills is not None and self.process is not None and self.kills.random() < 0.4:
            time.sleep(self.kills.uniform(0.0, 0.3))
            self.process.kill()
            self.process.wait()
            self.ensure_run()

    def running(self) -> list[tuple[int, str]]:
        trials = self.client.trials("killed")
        return [(t.ordinal, t.name) for t in trials if t.state == "Running"]

    def full(self, want: int) -> list[tuple[int, str]]:
        """The running trials once there are as many as wanted, else nothing."""
        found = self.running()
        return found if len(found) == want else []

    def is_over(self, name: str) -> bool:
        return any(t.name == name and t.is_over for t in self.client.trials("killed"))

    def run(self, budget: int, parallel: int) -> int:
        """The exit status of the last `run`."""
        self.ensure_run()
        eventually(lambda: "killed" in self.client.names(), "the experiment is stored")
        for ended in range(budget):
            want = min(parallel, budget - ended)
            found = eventually(partial(self.full, want), f"{want} trials run")
            # Not always the oldest: outcomes come out of order.
            _, name = found[(ended * 7) % len(found)]
            (self.cli.folder / "gates" / name).touch()
            self.maybe_kill()
            eventually(partial(self.is_over, name), f"{name} is over")
        assert self.process is not None
        self.ensure_run()
        return self.process.wait(timeout=60)


def gated(folder: Path, kills: random.Random | None) -> CommandLine:
    cli = prepared(folder, maxTrialCount=16, parallelTrialCount=4)
    gates = Gates(cli, kills)
    try:
        assert gates.run(16, 4) == 0, (folder / "command.log").read_text()
    finally:
        if gates.process is not None and gates.process.poll() is None:
            gates.process.send_signal(signal.SIGTERM)
            gates.process.wait(timeout=60)
    return cli


def test_with_four_at_a_time_and_gated_ends_kills_change_nothing(tmp_path: Path) -> None:
    undisturbed = gated(tmp_path / "undisturbed", None)
    killed = gated(tmp_path / "killed", random.Random(7))
    assert outcome(killed) == outcome(undisturbed)
    assert best_values(killed) == best_values(undisturbed)
    assert_nothing_twice_or_lost(killed, 16)
