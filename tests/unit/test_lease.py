# SPDX-License-Identifier: Apache-2.0
"""One controller per state directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from command_line import eventually

from tunesmith_controller.manager.lease import FileLease


def test_only_one_holds_it_until_it_is_released(tmp_path: Path) -> None:
    first, second = FileLease(tmp_path / "lock"), FileLease(tmp_path / "lock")
    assert first.try_acquire() and first.held
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()


def test_it_names_its_holder(tmp_path: Path) -> None:
    lease = FileLease(tmp_path / "lock")
    assert lease.holder() is None
    lease.try_acquire()
    assert FileLease(tmp_path / "lock").holder() == os.getpid()
    lease.release()
    assert FileLease(tmp_path / "lock").holder() is None


def test_a_killed_holder_leaves_it_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from tunesmith_controller.manager.lease import FileLease;"
        "lease = FileLease(Path(sys.argv[1])); assert lease.try_acquire();"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        lease = FileLease(tmp_path / "lock")
        assert not lease.try_acquire()
        holder.send_signal(signal.SIGKILL)
        eventually(lease.try_acquire, "the lease is free")
