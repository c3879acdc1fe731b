# SPDX-License-Identifier: Apache-2.0
"""`tunesmith.Client` and the command line over stored objects, without a controller."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import written
from command_line import CommandLine

from tunesmith.client import Client
from tunesmith.errors import InvalidExperiment, NotThere, StateUnusable


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "home")


def created(client: Client, **changes: Any) -> Mapping[str, Any]:
    source = written.experiment()
    source["metadata"] |= {"namespace": "", **changes}
    client.create(source)
    return source


def test_a_created_experiment_is_listed_with_what_it_asks_for(client: Client) -> None:
    source = created(client, name="one")
    (view,) = client.experiments()
    assert (view.name, view.namespace, view.state) == ("one", view.namespace, "Pending")
    assert view.algorithm == source["spec"]["algorithm"]["algorithmName"]
    assert client.trials("one") == []


def test_the_same_name_twice_is_refused_and_in_another_namespace_is_not(tmp_path: Path) -> None:
    red, blue = Client(tmp_path, "red"), Client(tmp_path, "blue")
    created(red, name="one")
    created(blue, name="one")
    with pytest.raises(InvalidExperiment):
        created(red, name="one")
    assert [v.namespace for v in red.experiments(all_namespaces=True)] == ["blue", "red"]
    assert [v.namespace for v in red.experiments()] == ["red"]


def test_a_name_that_is_not_there_gets_near_ones_and_other_namespaces(tmp_path: Path) -> None:
    red = Client(tmp_path, "red")
    created(red, name="digits")
    with pytest.raises(NotThere, match="did you mean digits"):
        red.experiment("digit")
    with pytest.raises(NotThere) as caught:
        Client(tmp_path, "blue").experiment("digits")
    assert "-n red" in caught.value.hint


def test_without_a_best_trial_there_is_a_next_command(client: Client) -> None:
    created(client, name="one")
    with pytest.raises(NotThere) as caught:
        client.best("one")
    assert caught.value.hint == "tunesmith trials one or tunesmith why one"


def test_faults_of_a_mapping_come_all_at_once(client: Client) -> None:
    source = written.experiment()
    source["spec"]["objective"]["type"] = "sideways"
    source["spec"]["maxTrialCount"] = -1
    with pytest.raises(InvalidExperiment) as caught:
        client.create(source)
    assert {f.field for f in caught.value.faults} >= {"spec.objective.type", "spec.maxTrialCount"}


@pytest.mark.parametrize("metadata", [None, [], "name", {}])
def test_odd_metadata_is_a_fault_and_no_crash(client: Client, metadata: Any) -> None:
    source = {**written.experiment(), "metadata": metadata}
    with pytest.raises(InvalidExperiment):
        client.create(source)
    with pytest.raises(InvalidExperiment):
        client.validate(source)


def test_a_state_directory_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StateUnusable, match="home"):
        Client(tmp_path / "home").experiments()


# ---- the command line ---------------------------------------------------------------------------


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


def test_importing_tunesmith_loads_nothing_heavy() -> None:
    program = (
        "import tunesmith, sys;"
        "heavy = {'pydantic', 'yaml', 'typer', 'sqlalchemy', 'grpc', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    assert done.stdout == "[]\n"


def test_the_command_line_loads_no_numbers_and_no_database() -> None:
    program = (
        "import tunesmith.cli.app, sys;"
        "print(sorted({'numpy', 'sqlalchemy', 'grpc', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    assert done.stdout == "[]\n"


def test_every_verb_teaches_with_an_example(cli: CommandLine) -> None:
    verbs = ["run", "validate", "ls", "show", "trials", "best", "logs", "why", "delete"]
    for verb in [*verbs, "suggestion", "db-manager"]:
        shown = cli.run(verb, "--help")
        assert shown.returncode == 0
        assert f"tunesmith {verb}" in shown.stdout, verb


def test_usage_errors_exit_2_without_a_trace(cli: CommandLine) -> None:
    for arguments in (["rnu"], ["run"], ["trials", "x", "--sort", "y"], ["best", "x", "-o", "z"]):
        done = cli.run(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_quiet(cli: CommandLine) -> None:
    command = f"{sys.executable} -m tunesmith --help | true"
    done = subprocess.run(
        ["sh", "-c", command], env=cli.env, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_a_defect_of_ours_is_one_sentence_and_a_file(cli: CommandLine) -> None:
    program = (
        "import tunesmith.cli.app as a, tunesmith.cli as c;a.app = lambda **options: 1 / 0;c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert "Traceback" not in done.stderr and "ZeroDivisionError" in done.stderr
    (details,) = (cli.home / "logs").glob("defect-*.txt")
    assert "Traceback" in details.read_text()


def test_completion_offers_names_and_is_silent_without_state(cli: CommandLine) -> None:
    created(Client(cli.home), name="digits", namespace="default")
    found = completed(cli, "tunesmith show dig")
    assert "digits" in found.stdout
    elsewhere = CommandLine(cli.folder, cli.folder / "nowhere")
    silent = completed(elsewhere, "tunesmith show dig")
    assert (silent.stdout.strip(), silent.stderr) == ("", "")
    assert not elsewhere.home.exists()


def completed(cli: CommandLine, line: str) -> subprocess.CompletedProcess[str]:
    words = line.split()
    env = {
        **cli.env,
        "_TUNESMITH_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = Path(sys.executable).with_name("tunesmith")
    assert os.access(program, os.X_OK)
    return subprocess.run([program], env=env, capture_output=True, text=True, check=False)
