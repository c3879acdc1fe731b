# SPDX-License-Identifier: Apache-2.0
"""Ends what an attempt left running when its supervisor was killed.

`attempt_folder.py` calls it before it declares an attempt lost. A living supervisor needs none of
this, for everything that its program starts stays below it. Without one, a process counts as the
attempt's only on evidence that a reused pid cannot give:

- it is the program itself, by pid and start time, or of the session which that program leads;
- its environment names the attempt's metrics file, which no other attempt has;
- its standard output or error is the attempt's output file;
- it descends from one of these.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tunesmith_controller.workloads import process_table
from tunesmith_controller.workloads.process_identity import ProcessIdentity

METRICS_VARIABLE = "TUNESMITH_METRICS_FILE"


def find(program: ProcessIdentity, metrics: str, output: Path) -> list[process_table.Process]:
    """The running processes of an attempt, oldest evidence first, each once.

    program: who the attempt's program is, or was. metrics: the value of TUNESMITH_METRICS_FILE in
    its environment. Takes tens of microseconds for each process of the machine.
    """
    if not program.is_of_this_boot:
        return []
    table = process_table.list_processes()
    mark = f"{METRICS_VARIABLE}={metrics}".encode()
    leads = program.exists
    own = [
        row
        for row in table
        if (leads and program.pid in (row.pid, row.session))
        or _carries(row.pid, mark)
        or _prints_to(row.pid, output)
    ]
    found = own + process_table.descendants(table, {row.pid for row in own})
    return [row for row in found if row.runs and row.pid != os.getpid()]


def kill(program: ProcessIdentity, metrics: str, output: Path) -> bool:
    """SIGKILL to all of them; True when there was nothing left to kill.

    Looks twice before it says so: a process that forks and exits while the table is being read can
    be missed once.
    """
    for _ in range(2):
        found = find(program, metrics, output)
        for row in found:
            process_table.signal_process(row.pid, row.start, signal.SIGKILL)
        if found:
            return False
    return True


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, another user's, or no /proc
        return False


def _prints_to(pid: int, output: Path) -> bool:
    for descriptor in (1, 2):
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") == str(output):
                return True
        except OSError:
            continue
    return False
