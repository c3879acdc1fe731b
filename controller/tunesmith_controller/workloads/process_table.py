# SPDX-License-Identifier: Apache-2.0
"""The process table of this machine: who runs, below whom, since when.

`supervisor.py`, `process_identity.py` and `stragglers.py` read it here, so that all see the same.
Standard library only, and little of it: each supervisor loads this before anything else.
"""

from __future__ import annotations

import os
import signal


class Process:
    """One row of the process table. `start` is opaque text: equal for the same process only."""

    __slots__ = ("group", "parent", "pid", "session", "start", "state")

    def __init__(  # noqa: PLR0917 - the columns in their order
        self, pid: int, parent: int, group: int, session: int, state: str, start: str
    ) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.state = state
        self.start = start

    @property
    def runs(self) -> bool:
        """False for a zombie: it has ended and only waits to be reaped."""
        return self.state not in ("Z", "X", "x")


def read_process(pid: int) -> Process | None:
    """The process with this pid now; None when there is none."""
    if not os.path.isdir("/proc/self"):
        return next((row for row in _ps("-p", str(pid)) if row.pid == pid), None)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name is in parentheses and may itself hold spaces and parentheses (man 5 proc_pid_stat).
    fields = text[text.rindex(")") + 1 :].split()
    parent, group, session = (int(field) for field in fields[1:4])
    return Process(pid, parent, group, session, fields[0], fields[19])


def list_processes() -> list[Process]:
    """All processes that can be seen, in no order; each row is consistent, the list is not."""
    if not os.path.isdir("/proc/self"):
        return _ps("-A")
    rows = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [row for row in rows if row is not None]


def _ps(*which: str) -> list[Process]:
    """The table where there is no /proc (macOS); a session counts as its leader's group there."""
    import subprocess  # noqa: PLC0415 - costs more than everything else here, and Linux has /proc

    columns = "pid=,ppid=,pgid=,stat=,lstart="
    command = ["ps", *which, "-o", columns]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ps:
        lines = [line.split(None, 4) for line in ps.communicate()[0].splitlines()]
    return [
        Process(int(pid), int(parent), int(group), int(group), state[0], start.strip())
        for pid, parent, group, state, start in lines
        if int(pid) != ps.pid
    ]


def boot() -> str:
    """Names this run of the machine and our view of its pids; "" where the kernel has no name.

    A pid and a start time mean something only within one boot and one pid namespace.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def descendants(table: list[Process], roots: set[int]) -> list[Process]:
    """The processes below `roots`, without the roots."""
    children: dict[int, list[Process]] = {}
    for row in table:
        children.setdefault(row.parent, []).append(row)
    found: dict[int, Process] = {}
    unseen = list(roots)
    while unseen:
        for row in children.get(unseen.pop(), []):
            if row.pid not in found and row.pid not in roots:
                found[row.pid] = row
                unseen.append(row.pid)
    return list(found.values())


def signal_process(pid: int, start: str, number: int) -> bool:
    """Signals the process that has this pid and start time; False when it is gone.

    The handle is opened before the start time is compared, so a pid that is reused in between is
    never signalled. Without handles (macOS, Linux before 5.3) the comparison alone has to do.
    """
    try:
        handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    except ProcessLookupError:
        return False
    except OSError:
        handle = -1
    try:
        now = read_process(pid)
        if now is None or now.start != start:
            return False
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True
