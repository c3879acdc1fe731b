# SPDX-License-Identifier: Apache-2.0
"""Foreign clients: Katib's unmodified Python client, in an environment of its own, and what of ours
it talks to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

HERE = Path(__file__).parent
Call = Callable[..., Any]


@pytest.fixture(scope="session")
def agent() -> Iterator[Call]:
    """`agent(function, **arguments)` is a function of katib_agent.py. Raises RuntimeError with the
    whole chain of what went wrong there. Its kubernetes package is the newest that Katib's client
    works with in full."""
    with started_agent(kubernetes=35) as ask:
        yield ask


@pytest.fixture(scope="session")
def agent_36() -> Iterator[Call]:
    """The same with the newest kubernetes package that Katib's client works with at all."""
    with started_agent(kubernetes=36) as ask:
        yield ask


@contextmanager
def started_agent(kubernetes: int) -> Iterator[Call]:
    command = [str(_katib_python(kubernetes)), "-I", str(HERE / "katib_agent.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield partial(_ask, process)
        process.communicate(timeout=10)  # it ends at the end of its input


def _ask(process: subprocess.Popen[str], function: str, **arguments: Any) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"Katib's client ended on {function}: {process.communicate()[1]}"
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]


def _katib_python(kubernetes: int) -> Path:
    command = [sys.executable, str(HERE / "set_up.py"), str(kubernetes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        absent = f"no environment for Katib's client: {done.stderr[-800:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """`tunesmith serve` over a state directory of its own."""
    folder = tmp_path_factory.mktemp("foreign")
    cli = CommandLine(folder, folder / "home")
    process = cli.start("serve")
    try:
        eventually(lambda: _is_up(cli, process), "the API is up")
        yield cli
    finally:
        process.terminate()
        process.wait(timeout=20)
        for pid in cli.leftovers():  # trials of tests that failed half-way
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _is_up(cli: CommandLine, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, (cli.folder / "command.log").read_text()
    return (cli.home / "api.json").exists() and (cli.home / "kubeconfig").exists()


@pytest.fixture(scope="session")
def katib(agent: Call, machine: CommandLine) -> Call:
    """`katib(method, **arguments)`: a method of KatibClient against `machine`."""
    config = str(machine.home / "kubeconfig")

    def call(method: str, **arguments: Any) -> Any:
        return agent("call", config=config, method=method, arguments=arguments)

    return call
