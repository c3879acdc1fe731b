# SPDX-License-Identifier: Apache-2.0
"""How a batch/v1 Job is read as a local program, and what it is told when it cannot be one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith_controller.ports import Invalid, Key, TrialRun
from tunesmith_controller.workloads.job_spec import Plan, Surroundings, plan

POD = "trialSpec.spec.template.spec"


def run_of(container: dict[str, Any], pod: dict[str, Any] | None = None, **job: Any) -> TrialRun:
    main = {"name": "main", "command": ["sh"], **container}
    spec = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job-1"},
        "spec": {"template": {"spec": {"containers": [main], **(pod or {})}}, **job},
    }
    return TrialRun(Key("Trial", "team", "trial-1"), "uid-1", 2, spec, "main")


def planned(
    run: TrialRun,
    environ: Mapping[str, str] | None = None,
    context: Mapping[str, str] | None = None,
) -> Plan:
    environ = {"PATH": "/usr/bin:/bin"} if environ is None else environ
    run = replace(run, context=context or {})
    return plan(run, Surroundings(environ, Path("/state/metrics.jsonl"), Path("/state/work")))


def refusal(run: TrialRun, context: Mapping[str, str] | None = None) -> str:
    with pytest.raises(Invalid) as refused:
        planned(run, context=context)
    return str(refused.value)


def submitted_from(folder: Path) -> dict[str, str]:
    return {"tunesmith.dev/folder": str(folder)}


class TestCommand:
    def test_command_and_args_are_one_argv_and_no_shell_sees_them(self) -> None:
        run = run_of({"command": ["sh", "-c"], "args": ["echo 'a b'; $HOME", ""]})
        assert planned(run).argv == ("sh", "-c", "echo 'a b'; $HOME", "")

    def test_names_in_parentheses_are_expanded_as_kubernetes_does(self) -> None:
        env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2 $(LATER)"}]
        words = ["$(B)", "$$(A)", "$(NO) $(HOME)", "$A", "$(A", "$$$(A)", "$(TUNESMITH_ATTEMPT)"]
        run = run_of({"command": ["sh", *words], "env": env})
        assert planned(run, {"PATH": "/bin:/usr/bin", "HOME": "/root"}).argv[1:] == (
            *("12 $(LATER)", "$(A)", "$(NO) $(HOME)", "$A", "$(A", "$1", "2"),
        )

    def test_the_submitters_path_finds_the_command(self, tmp_path: Path) -> None:
        program = tmp_path / "train"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        found = planned(
            run_of({"command": ["train"]}), context={"tunesmith.dev/path": str(tmp_path)}
        )
        assert (found.executable, found.argv) == (str(program), ("train",))
        assert found.env["PATH"] == str(tmp_path)

    def test_a_command_with_a_slash_is_looked_up_in_the_folder(self, tmp_path: Path) -> None:
        program = tmp_path / "train.sh"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        found = planned(run_of({"command": ["./train.sh"]}), context=submitted_from(tmp_path))
        assert Path(found.executable).samefile(program)


class TestFolder:
    def test_it_is_that_of_the_experiment_file(self, tmp_path: Path) -> None:
        assert planned(run_of({}), context=submitted_from(tmp_path)).cwd == str(tmp_path)

    def test_a_relative_working_dir_is_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        run = run_of({"workingDir": "src"})
        assert planned(run, context=submitted_from(tmp_path)).cwd == str(tmp_path / "src")

    def test_an_absolute_working_dir_wins(self, tmp_path: Path) -> None:
        run = run_of({"workingDir": str(tmp_path)})
        assert planned(run, context=submitted_from(Path("/"))).cwd == str(tmp_path)

    def test_without_either_it_is_fresh(self) -> None:
        assert planned(run_of({})).cwd == "/state/work"


class TestEnvironment:
    def test_it_has_what_is_needed_and_no_secrets(self) -> None:
        environ = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "1"}
        secrets = {"AWS_SECRET_ACCESS_KEY": "s", "HTTP_PROXY": "s", "PYTHONPATH": "s"}
        env = planned(run_of({}), {**environ, **secrets}).env
        assert dict(env) == {
            **environ,
            "PYTHONUNBUFFERED": "1",
            "KATIB_TRIAL_NAME": "trial-1",
            "TUNESMITH_TRIAL_NAME": "trial-1",
            "TUNESMITH_TRIAL_UID": "uid-1",
            "TUNESMITH_ATTEMPT": "2",
            "TUNESMITH_METRICS_FILE": "/state/metrics.jsonl",
            "TUNESMITH_CHECKPOINT_DIR": "/checkpoint",
            "TUNESMITH_STOP_FILE": "/state/shared/stop",
        }

    def test_the_container_may_change_what_is_not_reserved(self) -> None:
        env = [{"name": "PYTHONUNBUFFERED", "value": "0"}, {"name": "EMPTY"}]
        made = planned(run_of({"env": env})).env
        assert (made["PYTHONUNBUFFERED"], made["EMPTY"]) == ("0", "")

    def test_name_and_namespace_come_from_the_job(self) -> None:
        fields = ("metadata.name", "metadata.namespace")
        env = [
            {"name": path[9:].upper(), "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for path in fields
        ]
        made = planned(run_of({"env": env})).env
        assert (made["NAME"], made["NAMESPACE"]) == ("job-1", "team")


class TestLimits:
    @pytest.mark.parametrize(
        ("resources", "millis"),
        [
            ({}, 1000),
            ({"requests": {"cpu": "500m"}}, 500),
            ({"requests": {"cpu": "500m"}, "limits": {"cpu": 2}}, 2000),
            ({"requests": {"cpu": "3"}, "limits": {"memory": "1Gi"}}, 3000),
        ],
    )
    def test_cpus_are_the_limit_then_the_request_then_one(
        self, resources: dict[str, Any], millis: int
    ) -> None:
        assert planned(run_of({"resources": resources})).cpu_millis == millis

    def test_the_pods_grace_period_counts(self) -> None:
        assert planned(run_of({}, {"terminationGracePeriodSeconds": 7})).grace_seconds == 7
        assert planned(run_of({})).grace_seconds is None


class TestRefusals:
    """Each says where in the template, what, and what to do."""

    def test_another_kind(self) -> None:
        run = run_of({})
        run.spec.update(apiVersion="kubeflow.org/v1", kind="PyTorchJob")
        said = refusal(run)
        assert "PyTorchJob of kubeflow.org/v1" in said
        assert "cluster mode" in said

    def test_no_primary_container_lists_those_there_are(self) -> None:
        assert "'main' (there are: a, b)" in refusal(
            run_of({}, {"containers": [{"name": "a"}, {"name": "b"}]})
        )

    @pytest.mark.parametrize(
        ("container", "pod", "job", "place"),
        [
            ({"command": []}, {}, {}, f"{POD}.containers[0]"),
            ({}, {"initContainers": [{"name": "a"}]}, {}, f"{POD}.initContainers"),
            (
                {},
                {"containers": [{"name": "main", "command": ["sh"]}, {"name": "side"}]},
                {},
                f"{POD}.containers",
            ),
            ({"envFrom": [{}]}, {}, {}, f"{POD}.containers[0].envFrom"),
            ({"volumeMounts": [{}]}, {}, {}, f"{POD}.containers[0].volumeMounts"),
            ({}, {}, {"parallelism": 2}, "trialSpec.spec.parallelism"),
            ({}, {}, {"completions": 2}, "trialSpec.spec.completions"),
            (
                {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
                {},
                {},
                f"{POD}.containers[0].env[0].valueFrom takes its value from secretKeyRef",
            ),
        ],
    )
    def test_what_needs_a_cluster_names_the_cluster_mode(
        self, container: dict[str, Any], pod: dict[str, Any], job: dict[str, Any], place: str
    ) -> None:
        said = refusal(run_of(container, pod, **job))
        assert said.startswith(place)
        assert "cluster mode" in said

    def test_a_command_that_is_not_installed_shows_the_path_searched(self) -> None:
        said = refusal(run_of({"command": ["no-such-program"]}))
        assert "no-such-program is not on the PATH of this trial (/usr/bin:/bin)" in said

    def test_a_command_of_the_image_only(self) -> None:
        said = refusal(run_of({"command": ["/opt/trainer/run.sh"]}))
        assert "/opt/trainer/run.sh does not exist on this machine" in said

    def test_a_file_that_cannot_be_run(self, tmp_path: Path) -> None:
        (tmp_path / "notes").touch()
        said = refusal(run_of({"command": [str(tmp_path / "notes")]}))
        assert "is no file that can be run" in said

    def test_a_working_dir_of_the_image_only(self) -> None:
        said = refusal(run_of({"workingDir": "/opt/trainer"}))
        assert said.startswith(f"{POD}.containers[0].workingDir: there is no folder /opt/trainer")

    def test_a_folder_that_was_deleted_since(self) -> None:
        said = refusal(run_of({}), submitted_from(Path("/gone")))
        assert said.startswith("the folder /gone from which")

    @pytest.mark.parametrize(
        ("container", "words"),
        [
            ({"args": [0.1]}, "args[0] is 0.1, which is no text; put it in quotes"),
            ({"env": [{"name": "A", "value": 1}]}, "env[0].value is 1, which is no text"),
            ({"env": [{"name": "A=B"}]}, "env[0]: an entry needs a name without '='"),
            ({"env": [{"name": "TUNESMITH_ATTEMPT"}]}, "sets TUNESMITH_ATTEMPT, which tunesmith"),
            ({"args": ["a\0b"]}, "holds a NUL character"),
            ({"args": ["\ud800"]}, "holds half a character"),
            ({"resources": {"limits": {"cpu": "many"}}}, "'many' is no CPU quantity"),
            ({"resources": {"limits": {"cpu": 0}}}, "0 is not above zero"),
            ({"env": "A=1"}, "it must be a list"),
        ],
    )
    def test_a_wrong_value_names_its_place(self, container: dict[str, Any], words: str) -> None:
        assert words in refusal(run_of(container))


def test_this_interpreter_can_be_named_absolutely() -> None:
    assert planned(run_of({"command": [sys.executable]})).executable == sys.executable
