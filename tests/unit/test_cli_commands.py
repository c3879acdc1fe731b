# SPDX-License-Identifier: Apache-2.0
"""The verbs over stored objects, in this process: what they print, where, with which status."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import given
import pytest
import written
import yaml

from tunesmith import cli
from tunesmith.cli.app import app
from tunesmith.client import Client
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Key


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


Tunesmith = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TUNESMITH_NAMESPACE", "TUNESMITH_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def tunesmith(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tunesmith:
    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tunesmith", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


def store(home: Path, *objects: Json) -> None:
    async def stored() -> None:
        async with LocalPlane.open(home) as plane:
            for obj in objects:
                await plane.store.create(obj)

    asyncio.run(stored())


@pytest.fixture
def quick(home: Path) -> Path:
    """An experiment "quick" with three trials; the second is the best, the third has NaN."""
    best = {
        "bestTrialName": "quick-b",
        "parameterAssignments": [{"name": "lr", "value": "0.1"}, {"name": "opt", "value": "a b"}],
        "observation": {"metrics": [_metric("loss", "0.25"), _metric("acc", "nan")]},
    }
    experiment = given.experiment(trialsSucceeded=2, currentOptimalTrial=best).json()
    trials = [given.trial(n, "Succeeded", loss=loss).json() for n, loss in ((0, 0.5), (1, 0.25))]
    silent = given.trial(2, "MetricsUnavailable").json()
    silent["status"]["observation"] = {"metrics": [_metric("loss", "nan")]}

    async def stored() -> None:
        async with LocalPlane.open(home) as plane:
            experiment["metadata"].pop("uid")
            owner = await plane.store.create(_unversioned(experiment))
            for trial in (*trials, silent):
                trial["metadata"]["ownerReferences"][0]["uid"] = owner["metadata"]["uid"]
                await plane.store.create(_unversioned(trial))

    asyncio.run(stored())
    return home


def _metric(name: str, value: str) -> Json:
    return {"name": name, "min": value, "max": value, "latest": value}


def _unversioned(obj: Json) -> Json:
    obj["metadata"].pop("resourceVersion", None)
    obj["metadata"].pop("finalizers", None)
    obj["metadata"].pop("uid", None)
    return obj


# ---- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb", [("trials", "quick"), ("show", "quick"), ("best", "quick"), ("ls",)]
)
def test_json_and_yaml_say_the_same_without_colours_or_nan(
    verb: tuple[str, ...], quick: Path, tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    as_json, as_yaml = tunesmith(*verb, "-o", "json"), tunesmith(*verb, "-o", "yaml")
    assert (as_json.status, as_yaml.status) == (0, 0)
    assert "\x1b" not in as_json.out + as_yaml.out
    assert json.loads(as_json.out, parse_constant=pytest.fail) == yaml.safe_load(as_yaml.out)


def test_a_figure_that_is_not_finite_is_a_string_in_json(quick: Path, tunesmith: Tunesmith) -> None:
    trials = json.loads(tunesmith("trials", "quick", "-o", "json").out)
    assert [t["metrics"]["loss"]["latest"] for t in trials] == [0.5, 0.25, "nan"]
    best = json.loads(tunesmith("best", "quick", "-o", "json").out)
    assert (best["objective"]["value"], best["metrics"]["acc"]["latest"]) == (0.25, "nan")


def test_the_keys_of_an_experiment_are_stable(quick: Path, tunesmith: Tunesmith) -> None:
    (found,) = json.loads(tunesmith("ls", "-o", "json").out)
    assert list(found) == [
        "name",
        "namespace",
        "state",
        "reason",
        "message",
        "waiting",
        "paused",
        "stopping",
        "algorithm",
        "objective",
        "parallel",
        "maxTrials",
        "trials",
        "enqueued",
        "best",
        "startTime",
        "completionTime",
    ]
    assert list(found["best"]) == ["trial", "objective", "parameters", "metrics"]


def test_the_best_first_and_only_so_many(quick: Path, tunesmith: Tunesmith) -> None:
    found = json.loads(tunesmith("trials", "quick", "--sort", "objective", "-o", "json").out)
    assert [trial["ordinal"] for trial in found] == [1, 0, 2]
    assert len(tunesmith("trials", "quick", "--top", "1").out.splitlines()) == 2


def test_the_best_comes_as_a_table_to_read_and_as_text_to_paste(
    quick: Path, tunesmith: Tunesmith
) -> None:
    assert tunesmith("best", "quick", "-o", "args").out == "--lr=0.1 '--opt=a b'\n"
    assert tunesmith("best", "quick", "-o", "env").out == "export LR=0.1\nexport OPT='a b'\n"
    table = tunesmith("best", "quick").out.splitlines()
    assert table[0].split() == ["best", "loss=0.25", "(trial", "quick-b)"]
    assert table[-1] == "parameters  --lr=0.1 '--opt=a b'"


def test_wide_has_messages_and_attempts(quick: Path, tunesmith: Tunesmith) -> None:
    assert "ATTEMPT" in tunesmith("trials", "quick", "-o", "wide").out
    assert "ATTEMPT" not in tunesmith("trials", "quick").out


@pytest.mark.parametrize("silence", ["option", "variable"])
def test_no_color_wins_over_a_terminal(
    silence: str, quick: Path, tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = tunesmith("why", "quick")
    assert "\x1b[" in coloured.out
    if silence == "variable":
        monkeypatch.setenv("NO_COLOR", "1")
    plain = tunesmith(*(["--no-color"] if silence == "option" else []), "trials", "quick")
    assert "\x1b[3" not in plain.out


# ---- names --------------------------------------------------------------------------------------


def trial_names(quick: Path) -> list[str]:
    return [trial.name for trial in Client(quick).trials("quick")]


def test_a_trial_is_found_by_name_beginning_and_number(quick: Path, tunesmith: Tunesmith) -> None:
    uid = Client(quick).experiment("quick").uid
    from tunesmith_api import names

    by_number = names.trial_name("quick", uid, 7)
    trial = given.trial(7, "Failed").json()
    trial["metadata"]["name"] = by_number
    trial["metadata"]["ownerReferences"][0]["uid"] = uid
    store(quick, _unversioned(trial))
    for name in (by_number, by_number[:-1], "quick/7"):
        assert by_number in tunesmith("why", name).out, name


def test_a_beginning_of_several_trials_names_them(quick: Path, tunesmith: Tunesmith) -> None:
    done = tunesmith("logs", "quick-")
    assert done.status == 2
    assert all(name in done.err for name in trial_names(quick))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logs", "quick"), "quick/0"),
        (("logs", "quick/77"), "tunesmith trials quick"),
        (("why", "quik"), "did you mean quick"),
        (("show", "quik"), "did you mean quick"),
        (("show", "quick", "-n", "red"), "add -n default"),
        (("algorithms", "tep"), "did you mean tpe"),
    ],
)
def test_a_wrong_name_gets_the_right_one(
    words: tuple[str, ...], said: str, quick: Path, tunesmith: Tunesmith
) -> None:
    done = tunesmith(*words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_commands_to_paste_name_the_namespace_where_it_matters(
    home: Path, tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client(home, "red").create(written.experiment())
    assert "tunesmith trials quick -n red\n" in tunesmith("why", "quick", "-n", "red").out
    monkeypatch.setenv("TUNESMITH_NAMESPACE", "red")
    assert "tunesmith trials quick\n" in tunesmith("why", "quick").out


def test_an_empty_list_says_where_there_is_more(quick: Path, tunesmith: Tunesmith) -> None:
    done = tunesmith("ls", "-n", "empty")
    assert (done.status, done.out) == (0, "")
    assert "tunesmith ls -A" in done.err
    assert "quick" in tunesmith("ls", "-A").out


def test_an_experiment_without_trials_says_so(home: Path, tunesmith: Tunesmith) -> None:
    Client(home).create(written.bent(("metadata", "namespace"), "default"))
    assert "no trials yet" in tunesmith("trials", "quick").err


# ---- files --------------------------------------------------------------------------------------


def a_file(name: str = "quick.yaml", **spec: Any) -> Path:
    source = written.experiment()
    source["spec"].update(spec)
    path = Path(name)
    path.write_text(yaml.safe_dump(source))
    return path


def test_standard_input_is_a_file_too(
    home: Path, tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = a_file().read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert tunesmith("validate", "-").out == "standard input: valid\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"kind: Pod\napiVersion: v1\n")))
    assert "standard input is a Pod" in tunesmith("validate", "-").err


def test_trials_of_standard_input_run_in_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith import experiment_source
    from tunesmith_api import names

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(a_file().read_bytes())))
    loaded = experiment_source.load("-", None, "default").annotated()
    assert loaded["metadata"]["annotations"][names.ANNOTATION_FOLDER] == os.getcwd()


def test_a_folder_names_the_files_it_holds(home: Path, tunesmith: Tunesmith) -> None:
    Path("folder").mkdir()
    a_file("folder/one.yaml")
    done = tunesmith("run", "folder")
    assert (done.status, done.err) == (
        2,
        "error: folder is a directory; it holds folder/one.yaml\n",
    )


def test_a_file_that_cannot_be_read_says_why(home: Path, tunesmith: Tunesmith) -> None:
    Path("loop.yaml").symlink_to("loop.yaml")
    done = tunesmith("run", "loop.yaml")
    assert done.status == 2
    assert done.err.startswith("error: loop.yaml cannot be read: Too many levels")


def test_a_misspelt_file_gets_the_right_one(home: Path, tunesmith: Tunesmith) -> None:
    a_file("experiment.yaml")
    assert "did you mean experiment.yaml?" in tunesmith("run", "experimnet.yaml").err


def test_every_fault_has_a_line_and_warnings_do_not_fail(home: Path, tunesmith: Tunesmith) -> None:
    a_file("bad.yaml", maxTrialCount=-1, parallelTrialCount=0)
    done = tunesmith("validate", "bad.yaml")
    assert done.status == 2
    assert done.err.count("  bad.yaml:") >= 2
    a_file("odd.yaml", paralelTrialCount=3)
    warned = tunesmith("validate", "odd.yaml")
    assert (warned.status, "paralelTrialCount" in warned.out) == (0, True)


# ---- statuses -----------------------------------------------------------------------------------


def test_an_unusable_state_directory_is_status_3(home: Path, tunesmith: Tunesmith) -> None:
    home.write_text("a file")
    done = tunesmith("ls")
    assert (done.status, "TUNESMITH_HOME" in done.err) == (3, True)


def test_state_that_a_newer_tunesmith_wrote_is_status_3(quick: Path, tunesmith: Tunesmith) -> None:
    import sqlite3

    with sqlite3.connect(quick / "objects.db") as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    done = tunesmith("ls")
    assert (done.status, done.err.startswith("error: the state directory")) == (3, True)


@pytest.mark.parametrize("words", [("rnu",), ("show",), ("trials", "quick", "--top", "0")])
def test_usage_errors_are_status_2(words: tuple[str, ...], tunesmith: Tunesmith) -> None:
    assert tunesmith(*words).status == 2


def test_a_misspelt_verb_gets_the_right_one(tunesmith: Tunesmith) -> None:
    assert "Did you mean 'trials'" in tunesmith("trails").err


@pytest.mark.parametrize(
    ("raised", "status"),
    [(KeyboardInterrupt(), 130), (BrokenPipeError(32, "gone"), 141), (OSError(5, "gone"), 141)],
)
def test_an_interrupt_and_a_reader_that_went_away_are_quiet(
    raised: BaseException, status: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    program = (
        "import tunesmith.cli as c, tunesmith.cli.app as a\n"
        f"def app(**_): raise {raised!r}\n"
        "a.app = app; c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")


def test_a_defect_is_one_sentence_a_file_and_status_70(
    quick: Path, tunesmith: Tunesmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Client, name: str) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Client, "why", broken)
    done = tunesmith("why", "quick")
    assert (done.status, done.out) == (70, "")
    assert done.err.startswith("error: a defect in tunesmith: ZeroDivisionError")
    assert "Traceback" not in done.err
    (details,) = (quick / "logs").glob("defect-*.txt")
    assert "Traceback" in details.read_text()
    assert (quick / "logs").stat().st_mode & 0o077 == 0


# ---- changing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said", "next_command"),
    [
        (("pause", "quick"), "experiment quick is paused", "tunesmith resume quick"),
        (("stop", "quick"), "experiment quick is being stopped", "best quick -o args"),
        (("resume", "quick"), "neither paused nor stopped", "tunesmith watch quick"),
        (("extend", "quick", "--trials", "+20"), "has 24 trials", "tunesmith watch quick"),
        (("extend", "quick", "--parallel", "4"), "4 trials, 4 in parallel", "watch quick"),
        (("enqueue", "quick", "x=-1.5"), "1 point enqueued", "tunesmith trials quick"),
    ],
)
def test_each_verb_says_what_came_of_it_what_is_next_and_that_nobody_controls(
    words: tuple[str, ...], said: str, next_command: str, quick: Path, tunesmith: Tunesmith
) -> None:
    done = tunesmith(*words)
    assert done.status == 0, done.err
    first, *_, last = done.out.splitlines()
    assert said in first and next_command in last
    assert "no controller is running" in done.err


def test_a_pause_shows_wherever_the_experiment_does(quick: Path, tunesmith: Tunesmith) -> None:
    tunesmith("pause", "quick")
    assert "Paused" in tunesmith("ls").out and "Paused" in tunesmith("show", "quick").out
    assert "goes on" in tunesmith("resume", "quick").out
    assert "Paused" not in tunesmith("ls").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("enqueue", "quick", "x"), "x: is no NAME=VALUE"),
        (("enqueue", "quick", "x=1", "x=2"), "x: has two values"),
        (("enqueue", "quick", "x=77"), "77"),
        (("enqueue", "quick", "y=1"), "y"),
        (("extend", "quick", "--trials", "many"), "'many' is no number of trials"),
        (("extend", "quick"), "--trials +20"),
        (("enqueue", "quick"), "Missing argument"),
        (("pause", "quik"), "did you mean quick"),
    ],
)
def test_what_cannot_be_done_is_status_2_and_changes_nothing(
    words: tuple[str, ...], said: str, quick: Path, tunesmith: Tunesmith
) -> None:
    before = tunesmith("show", "quick", "-o", "json").out
    done = tunesmith(*words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert tunesmith("show", "quick", "-o", "json").out == before


def test_create_stores_and_says_how_to_run(home: Path, tunesmith: Tunesmith) -> None:
    source = a_file("my file.yaml")
    done = tunesmith("create", str(source))
    assert done.out.startswith("experiment quick created in namespace team\n")
    assert "tunesmith run 'my file.yaml' -n team" in done.out and "tunesmith serve" in done.out
    assert "quick" in tunesmith("ls", "-n", "team").out
    again = tunesmith("create", str(source))
    assert (again.status, "exists" in again.err) == (2, True)


def with_template_in_a_config_map(name: str) -> tuple[Json, Json]:
    """An experiment, and the ConfigMap that its template is in."""
    source = written.experiment()
    source["metadata"] = {"name": name}
    template = source["spec"]["trialTemplate"]
    job = yaml.safe_dump(template.pop("trialSpec"))
    template["configMap"] = {
        "configMapName": "jobs",
        "configMapNamespace": "team",
        "templatePath": "job.yaml",
    }
    jobs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jobs"}}
    return source, {**jobs, "data": {"job.yaml": job}}


def test_a_file_brings_its_config_maps_and_changes_them(home: Path, tunesmith: Tunesmith) -> None:
    for name, extra in (("one", {"old.yaml": "x"}), ("two", {})):
        source, jobs = with_template_in_a_config_map(name)
        jobs["data"] |= extra
        Path("both.yaml").write_text(yaml.safe_dump_all([jobs, source]))
        done = tunesmith("create", "both.yaml", "-n", "team")
        assert done.status == 0, done.err
        assert stored(home, "ConfigMap", "team", "jobs")["data"] == jobs["data"]


def test_a_stored_config_map_is_found_and_a_missing_one_is_a_fault(
    home: Path, tunesmith: Tunesmith
) -> None:
    source, jobs = with_template_in_a_config_map("one")
    Path("alone.yaml").write_text(yaml.safe_dump(source))
    missing = tunesmith("validate", "alone.yaml", "-n", "team")
    assert (missing.status, "jobs" in missing.err) == (2, True)
    store(home, {**jobs, "metadata": {"name": "jobs", "namespace": "team"}})
    assert tunesmith("validate", "alone.yaml", "-n", "team").status == 0


def stored(home: Path, kind: str, namespace: str, name: str) -> Json:
    async def got() -> Json:
        async with LocalPlane.open(home) as plane:
            return await plane.store.get(Key(kind, namespace, name))

    return asyncio.run(got())


def test_a_deletion_that_was_interrupted_is_finished(quick: Path, tunesmith: Tunesmith) -> None:
    """The experiment has gone, its trials are on their way, and nobody controls."""

    async def half_deleted() -> None:
        async with LocalPlane.open(quick) as plane:
            trials = await plane.store.list("Trial", namespace="default")
            for trial in trials.items:
                key = Key("Trial", "default", trial["metadata"]["name"])
                await plane.store.patch(key, {"metadata": {"finalizers": ["clean-metrics-in-db"]}})
            await plane.store.delete(Key("Experiment", "default", "quick"))

    asyncio.run(half_deleted())
    assert tunesmith("show", "quick").status == 2
    done = tunesmith("delete", "quick")
    assert (done.status, done.out) == (0, "experiment quick deleted\n"), done.err
    gone = tunesmith("delete", "quick")
    assert (gone.status, "there is no experiment 'quick'" in gone.err) == (2, True)


# ---- README -------------------------------------------------------------------------------------


def test_the_readme_names_verbs_that_exist() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    named = set(re.findall(r"(?:`|^)tunesmith ([a-z][a-z-]*)", readme, re.MULTILINE))
    table = "".join(line for line in readme.splitlines() if line.startswith("|"))
    named |= set(re.findall(r"`([a-z]+) (?:EXP|FILE)", table))
    known = {command.name for command in app.registered_commands}
    assert len(named) > 12 and named <= known, named - known


def test_every_verb_has_a_sentence_and_an_example_of_itself() -> None:
    for command in app.registered_commands:
        said = (command.callback.__doc__ or "") if command.callback else ""
        assert command.short_help and "Example:" in said, command.name
        assert f"tunesmith {command.name} " in said or command.name in ("best", "logs"), said


# ---- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tunesmith pause q", {"quick"}),
        ("tunesmith watch q", {"quick"}),
        ("tunesmith enqueue quick x", {"x="}),
        ("tunesmith algorithms median", {"medianstop"}),
        ("tunesmith run --runtime p", {"process", "podman"}),
        ("tunesmith pa", {"pause"}),
    ],
)
def test_a_shell_completes_names_parameters_and_choices(
    line: str,
    offered: set[str],
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_TUNESMITH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    monkeypatch.setattr(sys, "argv", ["tunesmith"])
    with pytest.raises(SystemExit):
        cli.main()
    assert set(capsys.readouterr().out.split()) == offered


# ---- algorithms ---------------------------------------------------------------------------------


def test_algorithms_and_stopping_rules_teach_their_settings(tunesmith: Tunesmith) -> None:
    every = tunesmith("algorithms").out
    search, _, rules = every.partition("\nearly stopping\n")
    assert "tpe" in search and "medianstop" in rules
    one = tunesmith("algorithms", "tpe").out
    (row,) = [line for line in one.splitlines() if line.startswith("n_startup_trials ")]
    assert row.split() == ["n_startup_trials", "an", "integer", ">=", "0", "10"]
    assert "evenly spread random points" in one
    (settings,) = [
        view["settings"]
        for view in json.loads(tunesmith("algorithms", "-o", "json").out)
        if view["name"] == "tpe"
    ]
    assert {"name", "default", "allowed", "help", "aliases"} == set(settings[0])


@pytest.mark.parametrize(("name", "field"), [("tpe", "algorithm"), ("medianstop", "earlyStopping")])
def test_the_page_of_an_algorithm_ends_with_yaml_to_paste(
    name: str, field: str, tunesmith: Tunesmith
) -> None:
    pasted = tunesmith("algorithms", name).out.partition("In an experiment:\n")[2]
    found = yaml.safe_load(pasted)[field]
    assert found["algorithmName"] == name
    source = written.experiment()
    source["spec"][field] = found
    Client(Path("home")).validate(source)
