# SPDX-License-Identifier: Apache-2.0
"""Who a process is, so that a reused pid is never taken for it: pid, start time and boot.

`attempt_folder.py` reads identities from `supervisor.json`; the table itself is read by
`process_table.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_controller.workloads import process_table


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`start` is the start time as the kernel counts it (clock ticks since boot, field 22 of
    /proc/PID/stat); `boot` names the boot and the pid namespace in which both mean something."""

    pid: int
    start: str
    boot: str

    @property
    def is_of_this_boot(self) -> bool:
        return self.boot == process_table.boot()

    @property
    def exists(self) -> bool:
        """Whether its pid is still its own: it runs, or is a zombie that nobody has reaped."""
        return self._row() is not None

    @property
    def runs(self) -> bool:
        row = self._row()
        return row is not None and row.runs

    def send(self, number: int) -> bool:
        """Signals it, never another process; False when it is gone."""
        return self.is_of_this_boot and process_table.signal_process(self.pid, self.start, number)

    def _row(self) -> process_table.Process | None:
        row = process_table.read_process(self.pid) if self.is_of_this_boot else None
        return row if row is not None and row.start == self.start else None
