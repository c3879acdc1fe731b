# SPDX-License-Identifier: Apache-2.0
"""The tests' side of `cluster_supervisor.py`: start, signal and watch a cluster's processes.

`running_cluster.py` has one of these. Any thread may use it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("cluster_supervisor.py")


class ClusterError(AssertionError):
    """A test cluster does not do what it should; the text names the component and its log."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a supervisor sits: its scratch folder, and the namespaces of a node if it has any."""

    scratch: Path
    control_group: str = ""
    isolated: bool = False

    def argv(self, pidfd: int, prepare: str) -> list[str]:
        """The command that starts it; `prepare` is a shell script for inside the namespaces."""
        program = [sys.executable, "-I", str(_PROGRAM), str(self.scratch), str(pidfd)]
        program += [self.control_group] if self.control_group else []
        if not self.isolated:
            return program
        shell = ["bash", "-c", f'{prepare}\nexec "$@"', "prepare"]
        spaces = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork")
        return ["unshare", *spaces, "--kill-child=KILL", "--mount-proc", "--", *shell, *program]


class Processes:
    """A running supervisor and what it started."""

    def __init__(self, seat: Seat, prepare: str = "", keep: Sequence[int] = ()) -> None:
        pidfd = os.pidfd_open(os.getpid())
        try:
            self._process = subprocess.Popen(
                seat.argv(pidfd, prepare),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                pass_fds=[pidfd, *keep],
            )
        finally:
            os.close(pidfd)
        self._isolated = seat.isolated
        self._lock = threading.Lock()
        self._ask("look")

    def start(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        """Starts `argv` under `name`."""
        self._ask(
            "start", name=name, argv=list(argv), log=str(log), env=dict(env or {}), keep=list(keep)
        )

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to the component."""
        self._ask("signal", name=name, number=int(number))

    def wait(self, name: str, seconds: float) -> int | None:
        """The component's return code, or None if it still runs after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:  # in slices: the supervisor has one thread, and others may ask it too
            code: int | None = self._ask("wait", name=name, seconds=0.1)["code"]
            if code is not None or time.monotonic() > deadline:
                return code

    def return_code(self, name: str) -> int | None:
        """How the component ended, None while it runs."""
        code: int | None = self._look()[name][1]
        return code

    def pids(self) -> dict[str, int]:
        """The process ids, as this machine sees them, of components that run."""
        seen = {name: pid for name, (pid, code) in self._look().items() if code is None}
        if not self._isolated:
            return seen
        inner = {_innermost(pid): pid for pid in _children(self.supervisor_pid)}
        return {name: inner[pid] for name, pid in seen.items() if pid in inner}

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process id; the process whose namespaces a node has."""
        return _children(self._process.pid)[0] if self._isolated else self._process.pid

    def close(self) -> None:
        """Ends everything; returns when it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _look(self) -> dict[str, tuple[int, int | None]]:
        children: dict[str, tuple[int, int | None]] = self._ask("look")["children"]
        return children

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise ClusterError(f"the cluster's supervisor ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ClusterError(f"supervisor: {do} {arguments.get('name', '')}: {answer['error']}")
        return answer


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _innermost(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])
