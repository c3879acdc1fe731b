# SPDX-License-Identifier: Apache-2.0
"""`tunesmith serve` and the verbs around it, as a user meets them: real trials, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

from tunesmith.client import Client
from tunesmith.errors import StateUnusable
from tunesmith.views import TrialView
from tunesmith_controller.apiserver.address import ApiAddress, find_api

pytestmark = pytest.mark.integration

PARABOLA = [
    "python3",
    "-c",
    "import sys; x = float(sys.argv[1].split('=')[1]); print(f'loss={(x - 1) ** 2}')",
]
GATED = [
    "python3",
    "-c",
    "import os, sys, time\n"
    "while not os.path.exists('go'): time.sleep(0.02)\n"
    "x = float(sys.argv[1].split('=')[1]); print(f'loss={(x - 1) ** 2}')",
]
"""Waits for the file `go` in the folder of the experiment."""

ALL_BUT_ONE_GATED = [
    *GATED[:2],
    GATED[2]
    .replace("'go')", "'go') and not first()")
    .replace(
        "time\n",
        "time\n"
        "def first():\n"
        "    try: os.close(os.open('first', os.O_CREAT | os.O_EXCL)); return True\n"
        "    except FileExistsError: return False\n",
        1,
    ),
]
"""The first trial that looks does not wait."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


@pytest.fixture
def start(cli: CommandLine) -> Iterator[Start]:
    """Starts a command that is ended with the test; trials are let go."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        started.append(cli.start(*words))
        return started[-1]

    yield begin
    (cli.folder / "go").touch()
    for process in started:
        process.kill()
        process.wait(timeout=10)
    eventually(lambda: not cli.leftovers(), "trials ended")


@pytest.fixture
def served(cli: CommandLine, start: Start) -> subprocess.Popen[str]:
    process = start("serve")
    eventually(lambda: find_api(cli.home), "the API is up")
    return process


def api_of(cli: CommandLine) -> ApiAddress:
    found = find_api(cli.home)
    assert found is not None
    return found


def done(cli: CommandLine, *words: str) -> str:
    """What a command printed that succeeded."""
    finished = cli.run(*words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def create(cli: CommandLine, name: str) -> None:
    Client(cli.home).create(cli.folder / f"{name}.yaml")


def watch(cli: CommandLine, name: str) -> None:
    assert Client(cli.home).watch(name).experiment.state == "Succeeded"


def trials(cli: CommandLine, name: str) -> list[TrialView]:
    return Client(cli.home).trials(name)


def states(cli: CommandLine, name: str) -> list[str]:
    return [trial.state for trial in trials(cli, name)]


def is_running(cli: CommandLine, name: str, count: int) -> Callable[[], bool]:
    return lambda: states(cli, name).count("Running") == count


# ---- serve --------------------------------------------------------------------------------------


def test_serve_says_where_it_is_and_who_has_it_and_ends_cleanly(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    kubeconfig = cli.home / "kubeconfig"
    log = cli.folder / "command.log"
    eventually(lambda: f"export KUBECONFIG={kubeconfig}\n" in log.read_text(), "it says where")
    assert json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"].startswith("http")
    second = cli.run("serve")
    assert second.returncode == 3
    assert f"process {served.pid} controls" in second.stderr
    served.send_signal(signal.SIGINT)
    assert served.wait(timeout=20) == 0
    assert "Traceback" not in log.read_text()
    assert find_api(cli.home) is None


def test_what_is_created_is_run_by_serve_and_can_be_watched(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    cli.experiment("quick", PARABOLA)
    created = done(cli, "create", "quick.yaml")
    assert created.endswith("tunesmith watch quick\n")
    watched = done(cli, "watch", "quick")
    assert "experiment quick succeeded" in watched and "4/4 ended" in watched
    assert "tunesmith best quick -o args" in watched


def test_trials_run_on_when_serve_ends_and_run_takes_them_up(
    cli: CommandLine, start: Start, served: subprocess.Popen[str]
) -> None:
    cli.experiment("gated", GATED, maxTrialCount=2)
    create(cli, "gated")
    eventually(is_running(cli, "gated", 2), "both run")
    served.terminate()
    assert served.wait(timeout=20) == 0
    assert "2 trials left running" in (cli.folder / "command.log").read_text()
    (cli.folder / "go").touch()
    done(cli, "run", "gated.yaml")
    assert [(t.state, t.attempt) for t in trials(cli, "gated")] == [("Succeeded", 1)] * 2


def test_a_watcher_outlives_the_server_it_watched_through(
    cli: CommandLine, start: Start, served: subprocess.Popen[str]
) -> None:
    cli.experiment("gated", GATED, maxTrialCount=2)
    create(cli, "gated")
    watcher = start("watch", "gated")
    log = cli.folder / "command.log"
    eventually(lambda: log.read_text().count("running --x=") == 2, "it sees both trials")
    served.kill()
    served.wait(timeout=10)
    eventually(lambda: "no controller is running" in log.read_text(), "it says so")
    (cli.folder / "go").touch()
    done(cli, "run", "gated.yaml")
    assert watcher.wait(timeout=20) == 0
    assert "experiment gated succeeded" in log.read_text()


def test_a_second_run_takes_over_from_the_one_that_served(cli: CommandLine, start: Start) -> None:
    cli.experiment("gated", GATED, maxTrialCount=2)
    first = start("run", "gated.yaml")
    eventually(lambda: find_api(cli.home), "the run serves the API")
    eventually(is_running(cli, "gated", 2), "both run")
    second = start("run", "gated.yaml")
    log = cli.folder / "command.log"
    eventually(lambda: f"process {first.pid} runs the trials" in log.read_text(), "it waits")
    first.kill()
    first.wait(timeout=10)
    (cli.folder / "go").touch()
    assert second.wait(timeout=30) == 0, log.read_text()
    assert [(t.state, t.attempt) for t in trials(cli, "gated")] == [("Succeeded", 1)] * 2


# ---- the life cycle -----------------------------------------------------------------------------


def test_a_pause_interrupts_and_resume_goes_on_with_new_attempts(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    cli.experiment("gated", GATED, maxTrialCount=2)
    create(cli, "gated")
    eventually(is_running(cli, "gated", 2), "both run")
    assert "is paused" in done(cli, "pause", "gated")
    assert [trial.is_paused for trial in trials(cli, "gated")] == [True, True]
    assert "Paused" in done(cli, "ls")
    (cli.folder / "go").touch()
    done(cli, "resume", "gated")
    watch(cli, "gated")
    assert [(t.state, t.attempt) for t in trials(cli, "gated")] == [("Succeeded", 2)] * 2


def test_stop_shows_the_best_and_resume_and_extend_start_it_again(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    cli.experiment("long", ALL_BUT_ONE_GATED, maxTrialCount=6, resumePolicy="LongRunning")
    create(cli, "long")
    eventually(lambda: "Succeeded" in states(cli, "long"), "a trial has ended")
    stopped = done(cli, "stop", "long")
    assert "ended Succeeded" in stopped and "\nbest " in stopped
    assert "Running" not in states(cli, "long")
    assert "It can go on: tunesmith resume long" in done(cli, "why", "long")
    (cli.folder / "go").touch()
    done(cli, "resume", "long")
    watch(cli, "long")
    refused = cli.run("resume", "long")
    assert refused.returncode == 2 and "tunesmith extend long" in refused.stderr
    done(cli, "extend", "long", "--trials", "+2", "--parallel", "1")
    eventually(lambda: len(trials(cli, "long")) == 8, "it goes on")
    watch(cli, "long")
    # Those that ran when it was stopped were killed then.
    assert sorted(states(cli, "long")) == ["Killed"] * 2 + ["Succeeded"] * 6


def test_less_parallelism_holds_trials_back_and_says_so(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    cli.experiment("gated", GATED, maxTrialCount=3, parallelTrialCount=3)
    create(cli, "gated")
    eventually(is_running(cli, "gated", 3), "all run")
    done(cli, "extend", "gated", "--parallel", "1")
    eventually(lambda: sum(t.is_held for t in trials(cli, "gated")) == 2, "two are held back")
    assert "parallelTrialCount is 1" in done(cli, "why", "gated/2")
    (cli.folder / "go").touch()
    watch(cli, "gated")
    assert states(cli, "gated") == ["Succeeded"] * 3


def test_an_enqueued_point_is_tried_each_time_it_is_asked_for(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    cli.experiment("gated", GATED, maxTrialCount=5, parallelTrialCount=1)
    create(cli, "gated")
    eventually(is_running(cli, "gated", 1), "the first runs")
    done(cli, "enqueue", "gated", "x=1.5")
    done(cli, "enqueue", "gated", "x=1.5")
    (cli.folder / "go").touch()
    watch(cli, "gated")
    tried = [float(trial.parameters["x"]) for trial in trials(cli, "gated")]
    assert (len(tried), tried.count(1.5), tried[1:3]) == (5, 2, [1.5, 1.5])


# ---- through the API ----------------------------------------------------------------------------


def test_a_client_of_the_url_gets_the_same_answers(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    api = api_of(cli)
    near, far = Client(cli.home), Client(cli.folder / "nowhere", url=api.url, token=api.token)
    path = cli.experiment("quick", PARABOLA)
    assert far.run(path).experiment.state == "Succeeded"
    assert far.trials("quick") == near.trials("quick")
    assert far.best("quick") == near.best("quick")
    assert far.why("quick/1") == near.why("quick/1")
    assert list(far.logs("quick/1", follow=True)) == list(near.logs("quick/1"))
    far.delete("quick")
    assert near.experiments() == []
    assert not (cli.folder / "nowhere").exists()


def test_a_url_that_does_not_answer_or_a_wrong_token_is_one_sentence(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    url = api_of(cli).url
    with pytest.raises(StateUnusable, match="token is missing or wrong"):
        Client(url=url, token="wrong").experiments()
    served.kill()
    served.wait(timeout=10)
    with pytest.raises(StateUnusable, match=f"the API {url} cannot be used"):
        Client(url=url).experiments()


def test_other_peoples_patches_are_what_the_verbs_do(
    cli: CommandLine, served: subprocess.Popen[str]
) -> None:
    """A merge patch with curl is `tunesmith pause`."""
    cli.experiment("gated", GATED, maxTrialCount=1, parallelTrialCount=1)
    create(cli, "gated")
    eventually(is_running(cli, "gated", 1), "it runs")
    _patch(api_of(cli), "gated", {"metadata": {"annotations": {"tunesmith.dev/paused": "true"}}})
    eventually(lambda: trials(cli, "gated")[0].is_paused, "it is paused")
    _patch(api_of(cli), "gated", {"metadata": {"annotations": {"tunesmith.dev/paused": None}}})
    eventually(is_running(cli, "gated", 1), "it goes on")


def _patch(api: ApiAddress, name: str, patch: Mapping[str, Any]) -> None:
    import httpx

    path = f"/apis/kubeflow.org/v1beta1/namespaces/default/experiments/{name}"
    headers = {
        "Authorization": f"Bearer {api.token}",
        "Content-Type": "application/merge-patch+json",
    }
    reply = httpx.patch(api.url + path, headers=headers, content=json.dumps(patch))
    assert reply.status_code == 200, reply.text


# ---- services by hand ---------------------------------------------------------------------------


def test_the_controller_alone_runs_experiments_without_an_api(
    cli: CommandLine, start: Start
) -> None:
    process = start("controller")
    log = cli.folder / "command.log"
    eventually(lambda: "is running; Ctrl-C ends it" in log.read_text(), "it runs")
    cli.experiment("quick", PARABOLA)
    done(cli, "create", "quick.yaml")
    done(cli, "watch", "quick")
    assert find_api(cli.home) is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


def test_the_collector_takes_its_own_options(cli: CommandLine) -> None:
    helped = cli.run("collector", "--help")
    assert helped.returncode == 0 and "--trial-uid" in helped.stdout
    refused = cli.run("collector", "--sink", "unix:/nowhere")
    assert refused.returncode == 2 and "--trial-uid" in refused.stderr


def test_the_stopping_rules_are_served_until_a_signal(cli: CommandLine, start: Start) -> None:
    process = start("earlystopping", "--listen", f"unix:{cli.folder}/s")
    eventually((cli.folder / "s").exists, "it listens")
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - started < 5
