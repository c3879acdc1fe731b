# SPDX-License-Identifier: Apache-2.0
"""`tunesmith` as a real process in a state directory of its own, for integration tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMAND = (sys.executable, "-m", "tunesmith")


@dataclass(slots=True)
class CommandLine:
    """Runs commands over `home`; `folder` holds the files of the test."""

    folder: Path
    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TUNESMITH_")}
        return {**kept, "TUNESMITH_HOME": str(self.home), "NO_COLOR": "1", **self.extra}

    def run(self, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs to the end, without a terminal and with no standard input."""
        return subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Starts a command in the background; output goes to files in `folder`."""
        with (self.folder / "command.log").open("a") as log:
            return subprocess.Popen(
                [*COMMAND, *args],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def json(self, *args: str) -> Any:
        """The parsed output of a command with `-o json`."""
        done = self.run(*args, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def experiment(self, name: str, command: Sequence[str], **spec: Any) -> Path:
        """Writes an Experiment file whose trials run `command` with --x=<value>."""
        body = {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": name, **spec.pop("metadata", {})},
            "spec": {
                "objective": {"type": "minimize", "objectiveMetricName": "loss"},
                "algorithm": {
                    "algorithmName": spec.pop("algorithm", "random"),
                    "algorithmSettings": [{"name": "random_state", "value": "7"}],
                },
                "maxTrialCount": 4,
                "parallelTrialCount": 2,
                "parameters": [
                    {
                        "name": "x",
                        "parameterType": "double",
                        "feasibleSpace": {"min": "-4", "max": "4"},
                    }
                ],
                "trialTemplate": {
                    "primaryContainerName": "main",
                    "trialParameters": [{"name": "x", "reference": "x"}],
                    "trialSpec": _job([*command, "--x=${trialParameters.x}"]),
                },
                **spec,
            },
        }
        return self.write(f"{name}.yaml", yaml.safe_dump(body, sort_keys=False))

    def leftovers(self) -> list[int]:
        """Processes whose environment or command line names this state directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.home).encode() in known:
                found.append(int(entry.name))
        return found


def _job(command: Sequence[str]) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "python:3.11",
        "command": list(command),
        # Two attempts at once must fit wherever the tests run.
        "resources": {"limits": {"cpu": "100m"}},
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}


def eventually(
    condition: Callable[[], Any], what: str, *, within: float = 30.0, every: float = 0.05
) -> Any:
    """The first true value of `condition`; fails with `what` after the deadline."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(every)
