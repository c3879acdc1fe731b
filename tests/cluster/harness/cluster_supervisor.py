# SPDX-License-Identifier: Apache-2.0
"""The process that owns a cluster's processes, and ends them however the tests end.

`cluster_processes.py` starts it with a pipe as its standard input and a pidfd of the test run. It
takes one JSON command a line and answers each with one line. When the pipe closes, the test run
ends or SIGTERM comes, it kills what it started and removes the cluster's scratch folder and control
groups. Components have PR_SET_PDEATHSIG, so they end even if this process is killed itself. A node
has it as process 1 of a namespace: all that ran there, containers too, ends with it.

Standard library only: it starts in 40 ms.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _die_with_the_supervisor() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Supervisor:
    """Children by name. One thread: PR_SET_PDEATHSIG means the thread that forked."""

    def __init__(self, scratch: Path, control_group: str) -> None:
        self._scratch = scratch
        self._control_group = control_group
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, argv: list[str], log: str, env: dict[str, str], keep: list[int]
    ) -> dict[str, Any]:
        """Starts a child with its output appended to `log`, keeping the descriptors `keep`."""
        with Path(log).open("ab") as out:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._scratch,
                env=os.environ | env,
                start_new_session=True,
                pass_fds=keep,
                preexec_fn=_die_with_the_supervisor,  # noqa: PLW1509 - this process has one thread
            )
        self._children[name] = child
        return {"pid": child.pid}

    def signal(self, name: str, number: int) -> dict[str, Any]:
        """Sends a signal to a child that has not ended."""
        self._children[name].send_signal(number)
        return {}

    def wait(self, name: str, seconds: float) -> dict[str, Any]:
        """The child's return code, or null if it still runs after `seconds`."""
        try:
            return {"code": self._children[name].wait(seconds)}
        except subprocess.TimeoutExpired:
            return {"code": None}

    def look(self) -> dict[str, Any]:
        """Every child's process id, as this process sees it, and its return code or null."""
        return {
            "children": {name: [child.pid, child.poll()] for name, child in self._children.items()}
        }

    def end(self) -> None:
        """Kills everything and removes scratch files and control groups."""
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.kill()
        if os.getpid() == 1:
            _kill_the_namespace()
            _unmount_under(str(self._scratch))
        for child in self._children.values():
            child.wait()
        if not _mounts_under(str(self._scratch)):  # what is mounted there is not ours to delete
            shutil.rmtree(self._scratch, ignore_errors=True)
        _remove_control_groups(self._control_group)


def _kill_the_namespace() -> None:
    """Kills all other processes of the namespace whose process 1 this is, and reaps them."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            break
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            break
        time.sleep(0.005)


def _mounts_under(folder: str) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [mount for mount in mounts if mount.startswith(folder)]


def _unmount_under(folder: str) -> None:
    for mount in reversed(_mounts_under(folder)):
        _LIBC.umount2(os.fsencode(mount), 2)  # MNT_DETACH


def _remove_control_groups(name: str) -> None:
    if not name:
        return
    for root in Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup").glob(name):
        for top in root:
            folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
            for folder in folders:
                _remove_group(folder)


def _remove_group(folder: Path) -> None:
    deadline = time.monotonic() + 2  # a killed process leaves its group a moment later
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        else:
            return


def _serve(supervisor: Supervisor, tests: int) -> None:
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "start": supervisor.start,
        "signal": supervisor.signal,
        "wait": supervisor.wait,
        "look": supervisor.look,
    }
    pending = b""
    while True:
        ready, _, _ = select.select([0, tests], [], [])
        if tests in ready and 0 not in ready:
            return
        received = os.read(0, 65536)
        if not received:
            return
        pending += received
        *lines, pending = pending.split(b"\n")
        for line in lines:
            command = json.loads(line)
            try:
                answer = commands[command.pop("do")](**command)
            except (OSError, KeyError, subprocess.SubprocessError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def main() -> None:
    """`cluster_supervisor.py SCRATCH PIDFD [CONTROL_GROUP]`."""
    scratch, tests, group = Path(sys.argv[1]), int(sys.argv[2]), "".join(sys.argv[3:])
    supervisor = Supervisor(scratch, group)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _serve(supervisor, tests)
    except BrokenPipeError:
        pass  # nobody reads answers any more: the tests have ended
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        supervisor.end()


if __name__ == "__main__":
    main()
