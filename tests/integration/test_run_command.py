# SPDX-License-Identifier: Apache-2.0
"""`tunesmith` as a user meets it: run, look, run again, change, delete, two at once."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import COMMAND, CommandLine, eventually

from tunesmith.client import Client
from tunesmith.errors import NotThere

pytestmark = pytest.mark.integration

PARABOLA = [
    "python3",
    "-c",
    "import sys; x = float(sys.argv[1].split('=')[1]); print(f'loss={(x - 1) ** 2}')",
]


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


@pytest.fixture
def finished(cli: CommandLine) -> CommandLine:
    cli.experiment("quick", PARABOLA)
    done = cli.run("run", "quick.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return cli


def test_a_run_prints_a_line_per_change_and_the_result(cli: CommandLine) -> None:
    cli.experiment("quick", PARABOLA)
    done = cli.run("run", "quick.yaml")
    assert done.returncode == 0
    assert done.stdout.count(" succeeded loss=") == 4
    assert "tunesmith best quick -o args" in done.stdout


def test_state_is_private(finished: CommandLine) -> None:
    assert finished.home.stat().st_mode & 0o777 == 0o700


def test_the_trials_are_listed_for_programs(finished: CommandLine) -> None:
    trials = finished.json("trials", "quick")
    assert [trial["ordinal"] for trial in trials] == [0, 1, 2, 3]
    for trial in trials:
        x = float(trial["parameters"]["x"])
        assert trial["state"] == "Succeeded" and trial["attempt"] == 1
        assert trial["metrics"]["loss"]["latest"] == pytest.approx((x - 1) ** 2)


def test_the_best_comes_in_forms_to_paste(finished: CommandLine) -> None:
    best = finished.json("best", "quick")
    x = best["parameters"]["x"]
    trials = finished.json("trials", "quick")
    assert best["objective"]["value"] == min(t["metrics"]["loss"]["min"] for t in trials)
    assert finished.run("best", "quick", "-o", "args").stdout == f"--x={x}\n"
    assert finished.run("best", "quick", "-o", "env").stdout == f"export X={x}\n"


def test_a_finished_experiment_prints_its_result_again(finished: CommandLine) -> None:
    before = finished.json("trials", "quick")
    done = finished.run("run", "quick.yaml")
    assert done.returncode == 0
    assert "best" in done.stdout
    assert finished.json("trials", "quick") == before


def test_a_changed_file_is_refused_with_the_difference_and_fresh_starts_anew(
    finished: CommandLine,
) -> None:
    uid = Client(finished.home).experiment("quick").uid
    finished.experiment("quick", PARABOLA, maxTrialCount=5)
    refused = finished.run("run", "quick.yaml")
    assert refused.returncode == 2
    assert "-maxTrialCount: 4" in refused.stderr and "+maxTrialCount: 5" in refused.stderr
    assert finished.run("run", "quick.yaml", "--fresh").returncode == 0
    assert Client(finished.home).experiment("quick").uid != uid
    assert len(finished.json("trials", "quick")) == 5


def test_delete_leaves_nothing(finished: CommandLine) -> None:
    assert finished.run("delete", "quick").returncode == 0
    assert finished.json("ls") == []
    assert list((finished.home / "trials").iterdir()) == []
    with pytest.raises(NotThere):
        Client(finished.home).trials("quick")


def test_logs_accept_a_name_its_beginning_and_an_ordinal(finished: CommandLine) -> None:
    trial = finished.json("trials", "quick")[2]
    want = finished.run("logs", trial["name"]).stdout
    assert want.startswith("loss=")
    assert finished.run("logs", "quick/2").stdout == want
    assert finished.run("logs", trial["name"][:-1], "-f").returncode in (0, 2)


def test_a_failed_experiment_exits_1_and_why_names_the_trial(cli: CommandLine) -> None:
    cli.experiment("fails", ["python3", "-c", "raise SystemExit(3)"], maxFailedTrialCount=2)
    assert cli.run("run", "fails.yaml").returncode == 1
    explained = cli.run("why", "fails").stdout
    assert "exit" in explained and "tunesmith why fails-" in explained


def test_an_unusable_setting_fails_with_the_algorithms_words(cli: CommandLine) -> None:
    algorithm = {"algorithmName": "tpe", "algorithmSettings": [{"name": "gama", "value": "1"}]}
    path = cli.experiment("setting", PARABOLA)
    text = path.read_text().split("algorithm:")[0]
    rest = path.read_text().split("maxTrialCount:")[1]
    cli.write("setting.yaml", f"{text}algorithm: {json.dumps(algorithm)}\n  maxTrialCount:{rest}")
    done = cli.run("run", "setting.yaml")
    assert done.returncode in (1, 2)
    assert "gama" in done.stdout + done.stderr


def test_the_same_name_in_two_namespaces_at_once_does_not_meet(cli: CommandLine) -> None:
    slow = ["python3", "-c", "import time; time.sleep(0.3); print('loss=1.0')"]
    cli.experiment("twin", slow, maxTrialCount=6)
    first = cli.start("run", "twin.yaml", "-n", "red")
    second = cli.start("run", "twin.yaml", "-n", "blue")
    assert first.wait(timeout=60) == 0, (cli.folder / "command.log").read_text()
    assert second.wait(timeout=60) == 0, (cli.folder / "command.log").read_text()
    red = {trial["name"] for trial in cli.json("trials", "twin", "-n", "red")}
    blue = {trial["name"] for trial in cli.json("trials", "twin", "-n", "blue")}
    assert len(red) == len(blue) == 6
    assert not red & blue


def test_a_suggestion_service_killed_again_and_again_changes_nothing(cli: CommandLine) -> None:
    slow = ["python3", "-c", PARABOLA[2] + "; import time; time.sleep(0.1)"]
    cli.experiment("calm", slow, algorithm="tpe", maxTrialCount=20, parallelTrialCount=1)
    cli.experiment("storm", slow, algorithm="tpe", maxTrialCount=20, parallelTrialCount=1)
    assert cli.run("run", "calm.yaml").returncode == 0
    process, chance, kills = cli.start("run", "storm.yaml"), random.Random(11), 0
    while process.poll() is None:
        time.sleep(chance.uniform(0.1, 1.5))
        for pid in cli.leftovers() if kills < 8 else ():
            if pid != process.pid and b"tunesmith_suggestion" in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
                kills += 1
    assert process.returncode == 0, (cli.folder / "command.log").read_text()
    assert kills > 2
    calm, storm = cli.json("trials", "calm"), cli.json("trials", "storm")
    assert [t["parameters"] for t in storm] == [t["parameters"] for t in calm]
    assert {t["attempt"] for t in storm} == {1}


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Terminal:
    """A command under a pseudo-terminal."""

    def __init__(self, cli: CommandLine, *args: str) -> None:
        self.output = ""
        master, slave = pty.openpty()
        env = {k: v for k, v in cli.env.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
        # setsid makes the slave the controlling terminal, so that Ctrl-C becomes SIGINT.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *COMMAND, *args],
            cwd=cli.folder,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.master = master

    def read_until(self, text: str, within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while text not in self.output:
            assert time.monotonic() < deadline, f"no {text!r} in {self.output[-2000:]!r}"
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                self.output += os.read(self.master, 65536).decode("utf-8", "replace")

    def write(self, text: str) -> None:
        os.write(self.master, text.encode())


def test_on_a_terminal_ctrl_c_asks_and_leaves_the_trials_running(cli: CommandLine) -> None:
    script = "import time, os; open('on', 'w').close()\n" + (
        "while not os.path.exists('go'): time.sleep(0.02)\nprint('loss=1.0')"
    )
    cli.write("trial.py", script)
    cli.experiment("live", ["python3", "trial.py"], maxTrialCount=1, parallelTrialCount=1)
    terminal = Terminal(cli, "run", "live.yaml")
    terminal.read_until("live")
    eventually((cli.folder / "on").exists, "the trial runs")
    terminal.write("\x03")
    terminal.read_until("[l]eave")
    terminal.write("l\n")
    terminal.read_until("continues it")
    assert terminal.process.wait(timeout=30) == 130
    assert cli.leftovers()
    (cli.folder / "go").touch()
    assert cli.run("run", "live.yaml").returncode == 0
    (trial,) = cli.json("trials", "live")
    assert (trial["state"], trial["attempt"]) == ("Succeeded", 1)
    eventually(lambda: not cli.leftovers(), "processes ended")
