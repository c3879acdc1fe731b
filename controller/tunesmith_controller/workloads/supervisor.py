# SPDX-License-Identifier: Apache-2.0
"""The small program that runs one attempt of a trial and outlives the controller.

`process.py` starts it as `python -I -S supervisor.py FOLDER/launch.json`, in a session of its own.
It imports the standard library only, and little of it: there is one of these per running trial (no
dataclasses, typing, subprocess: they would double its start time).

Files of the attempt's folder, each written whole or not at all:

    launch.json      in: what to run
    stop             in: its existence asks for the end; before the start it forbids the start
    lock             held (flock) from before the first decision until this process is gone
    supervisor.json  out, before the program runs: who runs it (pid and start time of both)
    output.log       out: what the program printed, standard output and error in one
    exit.json        out, once nothing of the attempt is left: how it ended

Exactly one start: the program is forked first and waits on a pipe; only after `supervisor.json` is
on disk does it get the word to run. A crash before the record has run nothing, so another
supervisor may start; after the record none ever does. A program that fails is started again, by the
same supervisor, as often as `launch.json` allows.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time

if __name__ == "__main__":  # started by its path, and without the places of installed packages
    sys.path.append(os.path.abspath(__file__).rpartition("/tunesmith_controller/")[0])

from tunesmith_controller.workloads.process_table import (
    Process,
    boot,
    descendants,
    list_processes,
    read_process,
    signal_process,
)

TYPE_CHECKING = False  # what typing says it is, without importing it
if TYPE_CHECKING:
    from typing import Any

POLL_SECONDS = 1.0  # how soon a stop file is noticed without the signal that usually comes with it
KILL_SECONDS = 20.0  # how long SIGKILL is repeated before processes in the kernel are given up on
KILL_INTERVAL = 0.02
RETRY_SECONDS = 1.0  # between attempts to write the exit record to a full disk

LAUNCH, STOP, LOCK = "launch.json", "stop", "lock"
SUPERVISOR, OUTPUT, EXIT = "supervisor.json", "output.log", "exit.json"

EXITED = "Exited"
STOPPED = "Stopped"
STOPPED_BEFORE_START = "StoppedBeforeStart"
START_FAILED = "StartFailed"
INTERRUPTED = "Interrupted"
DEADLINE_EXCEEDED = "DeadlineExceeded"

READY = b"r"
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


# ---- files --------------------------------------------------------------------------------------


def write_durably(path: str, record: dict[str, Any]) -> None:
    """Puts a whole JSON file in place and returns when it would survive a power failure."""
    temporary = f"{path}.{os.getpid()}.tmp"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as stream:
            json.dump(record, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except OSError:
        _unlink(temporary)
        raise
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(folder: str) -> int | None:
    """The descriptor that holds the attempt's lock until it is closed; None when another does."""
    file = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _exists(folder: str, name: str) -> bool:
    return os.path.lexists(os.path.join(folder, name))


def _now() -> str:
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1_000_000):06d}Z"


# ---- signals to this process --------------------------------------------------------------------


class Wakeups:
    """Turns signals into something to wait for; `terminated` once somebody asked us to end."""

    def __init__(self) -> None:
        self.terminated = False
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        for number in HANDLED:
            signal.signal(number, _do_nothing)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait(self, seconds: float) -> None:
        """Returns after `seconds`, or sooner when a signal came."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, seconds))
        if ready:
            numbers = os.read(self._read, 4096)
            self.terminated |= signal.SIGTERM in numbers or signal.SIGINT in numbers


def _do_nothing(_number: int, _frame: object) -> None:
    """A signal that is ignored does not wake `select`; one that is handled does."""


# ---- the program --------------------------------------------------------------------------------


class Primary:
    """The program of the attempt: forked, held back until `go`, then waited for.

    Where the system can look without reaping, its zombie is kept until the very end: so long, its
    pid, which is also the name of its process group, cannot be given to another process.
    """

    def __init__(self, folder: str, launch: dict[str, Any]) -> None:
        prctl = _prctl()
        if prctl is not None:
            prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._status: int | None = None
        go, self._go = os.pipe()
        self._words, words = os.pipe()
        supervisor = os.getpid()
        # A signal to the program before its exec waits until then, instead of meeting our handler.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                _become_program(folder, launch, prctl, supervisor, go, words)
            except OSError as failure:
                text = f"{failure.strerror}: {failure.filename or launch['executable']}"
                os.write(words, text.encode("utf-8", "replace")[:4096])
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(go)
        os.close(words)
        os.read(self._words, len(READY))  # from now on its group can be signalled

    def go(self) -> None:
        """Lets the program run; without this call it ends, having done nothing."""
        with contextlib.suppress(BrokenPipeError):  # killed already: its status says so
            os.write(self._go, b"g")
        os.close(self._go)

    def cancel(self) -> None:
        """Ends it before it has run."""
        os.close(self._go)
        os.waitpid(self.pid, 0)

    def has_ended(self) -> bool:
        """Also reaps orphans of the tree that ended, which this process inherits."""
        if not hasattr(os, "waitid"):
            return self._poll()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if ended is None:
                return False
            if ended.si_pid == self.pid:
                return True
            os.waitpid(ended.si_pid, 0)

    def _poll(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def outcome(self) -> tuple[int | None, int | None, str]:
        """Exit code or signal, and why the program could not be started ("" when it was)."""
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(self._status)
        error = os.read(self._words, 4096).decode("utf-8", "replace")
        os.close(self._words)
        return (None, -code, error) if code < 0 else (code, None, error)


class _Prctl:
    """prctl(2) with two arguments; loaded before the fork, because loading allocates and locks."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._call = library.prctl

    def __call__(self, option: int, value: int) -> None:
        self._call(option, ctypes.c_ulong(value), 0, 0, 0)


def _prctl() -> _Prctl | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _Prctl(ctypes.CDLL(None))
    except (OSError, AttributeError):  # a libc without it: trees are then ended by group only
        return None


def _become_program(  # noqa: PLR0917 - one call, in the forked child
    folder: str, launch: dict[str, Any], prctl: _Prctl | None, supervisor: int, go: int, words: int
) -> None:
    """In the child: everything up to and including exec. Returns only when it may not run."""
    os.setsid()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.write(words, READY)
    # The supervisor may have died before the line above; then the pipe's end says it as well.
    if os.getppid() != supervisor or not os.read(go, 1):
        return
    _reset_signals()
    output = os.open(
        os.path.join(folder, OUTPUT), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.chdir(launch["cwd"])
    os.execve(launch["executable"], launch["argv"], launch["env"])  # noqa: S606 - no shell: meant


def _reset_signals() -> None:
    """Python ignores SIGPIPE, and whoever started the controller may ignore more (nohup)."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:  # reserved by the C library's threads
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


# ---- ending -------------------------------------------------------------------------------------


def deadline_of(launch: dict[str, Any]) -> float:
    """When, on the monotonic clock, an attempt that starts now has used its time."""
    allowed = launch["deadline_seconds"]
    return float("inf") if allowed is None else time.monotonic() + float(allowed)


def end_of_program(
    primary: Primary, folder: str, launch: dict[str, Any], deadline: float, wakeups: Wakeups
) -> str:
    """Waits for the program, or ends it when asked to or when its time is up; says which."""
    while not primary.has_ended():
        if _exists(folder, STOP) or wakeups.terminated:
            end_program(primary, launch, wakeups)
            return STOPPED if _exists(folder, STOP) else INTERRUPTED
        left = deadline - time.monotonic()
        if left <= 0:
            end_program(primary, launch, wakeups)
            return DEADLINE_EXCEEDED
        wakeups.wait(min(POLL_SECONDS, left))
    return EXITED


def end_of_pause(folder: str, seconds: float, deadline: float, wakeups: Wakeups) -> str:
    """Waits before a restart; EXITED when it may come, else why it may not."""
    until = min(time.monotonic() + seconds, deadline)
    while (left := until - time.monotonic()) > 0:
        if _exists(folder, STOP) or wakeups.terminated:
            return STOPPED if _exists(folder, STOP) else INTERRUPTED
        wakeups.wait(min(POLL_SECONDS, left))
    return DEADLINE_EXCEEDED if time.monotonic() >= deadline else EXITED


def end_program(primary: Primary, launch: dict[str, Any], wakeups: Wakeups) -> None:
    """SIGTERM to the program's group, then, when its grace has passed, SIGKILL to all."""
    for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process would not see SIGTERM
        _signal_group(primary.pid, number)
    deadline = time.monotonic() + launch["grace_seconds"]
    while not primary.has_ended():
        wakeups.wait(min(POLL_SECONDS, deadline - time.monotonic()))
        if time.monotonic() >= deadline:
            _end_container(launch)  # before its monitor is killed: so the runtime sees it end
            kill_tree(primary, wakeups)
            return


def end_leftovers(primary: Primary, grace: float, wakeups: Wakeups) -> int:
    """After the program: SIGTERM to what it left behind, `grace` seconds later SIGKILL.

    How many processes could not be ended (0, unless the kernel or another user holds them).
    """
    for row in _living(primary):
        signal_process(row.pid, row.start, signal.SIGTERM)
        signal_process(row.pid, row.start, signal.SIGCONT)
    deadline = time.monotonic() + grace
    while _living(primary) and time.monotonic() < deadline:
        wakeups.wait(min(POLL_SECONDS, deadline - time.monotonic()))
    return kill_tree(primary, wakeups)


def kill_tree(primary: Primary, wakeups: Wakeups) -> int:
    """SIGKILL, again and again, until nothing below this process runs; how many were left."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        _signal_group(primary.pid, signal.SIGKILL)  # reaches orphans where nobody inherits them
        living = _living(primary)
        if not living or time.monotonic() >= deadline:
            return len(living)
        # By group first: the kernel signals a group and holds off its forks in one step.
        for group in {row.group for row in living} - {os.getpgrp()}:
            _signal_group(group, signal.SIGKILL)
        for row in living:
            signal_process(row.pid, row.start, signal.SIGKILL)
        wakeups.wait(KILL_INTERVAL)


def _living(primary: Primary) -> list[Process]:
    """What runs below this process."""
    if _children() == [primary.pid]:
        program = read_process(primary.pid)
        if program is None or not program.runs:
            return []  # the usual end, without a look at every process of the machine
    return [row for row in descendants(list_processes(), {os.getpid()}) if row.runs]


def _children() -> list[int] | None:
    """Our own children, zombies included; None when the kernel does not list them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return None


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


# ---- the whole of it ----------------------------------------------------------------------------


def supervise(folder: str, wakeups: Wakeups) -> None:
    """Runs the attempt of `folder`, whose lock is held, unless that was decided before."""
    if _exists(folder, EXIT) or _exists(folder, SUPERVISOR):
        return
    with open(os.path.join(folder, LAUNCH), encoding="utf-8") as file:
        launch: dict[str, Any] = json.load(file)
    primary = Primary(folder, launch)
    record = {**_identities(primary), "started_at": _now()}
    write_durably(os.path.join(folder, SUPERVISOR), record)
    if _exists(folder, STOP):
        primary.cancel()
        _write_surely(folder, EXIT, {"reason": STOPPED_BEFORE_START, "ended_at": _now()})
        return
    primary.go()
    deadline, restarts = deadline_of(launch), 0
    end = run_to_end(primary, folder, launch, deadline, wakeups)
    while may_restart(end) and restarts < launch.get("restarts", 0):
        # For people who look while it waits; then who runs next, before it runs.
        record |= {"failures": restarts + 1, "exit_code": end["exit_code"], "signal": end["signal"]}
        _write_surely(folder, SUPERVISOR, record)
        end["reason"] = end_of_pause(folder, restart_delay(restarts), deadline, wakeups)
        if end["reason"] != EXITED:
            break
        primary = Primary(folder, launch)
        record |= _identities(primary)
        _write_surely(folder, SUPERVISOR, record)
        if _exists(folder, STOP):
            primary.cancel()
            end["reason"] = STOPPED
            break
        primary.go()
        restarts += 1
        end = run_to_end(primary, folder, launch, deadline, wakeups)
    _write_surely(folder, EXIT, {**end, "started_at": record["started_at"], "restarts": restarts})


def run_to_end(
    primary: Primary, folder: str, launch: dict[str, Any], deadline: float, wakeups: Wakeups
) -> dict[str, Any]:
    """Returns when nothing of a program that was started is left: how it ended."""
    reason = end_of_program(primary, folder, launch, deadline, wakeups)
    ended = _now()
    problem = _end_container(launch)
    leftovers = end_leftovers(primary, launch["leftover_seconds"], wakeups)
    code, number, error = primary.outcome()
    return {
        "reason": START_FAILED if error else reason,
        "message": error or problem,
        "exit_code": code,
        "signal": number,
        "ended_at": ended,
        "leftovers": leftovers + bool(problem),
    }


def may_restart(end: dict[str, Any]) -> bool:
    """A program that ran, failed by itself, and is gone."""
    return bool(end["reason"] == EXITED and end["exit_code"] != 0 and not end["leftovers"])


def restart_delay(restarts: int) -> float:
    """Seconds before the next restart: 1, 2, 4 ... at most 60, as Kubernetes doubles its own."""
    return float(min(2 ** min(restarts, 6), 60))


def _end_container(launch: dict[str, Any]) -> str:
    """What hinders the end of the attempt's container; "" when nothing does, or it has none."""
    if not launch.get("container"):
        return ""
    # Loaded here: it needs subprocess, which most attempts do without.
    from tunesmith_controller.workloads.container_end import end_container  # noqa: PLC0415

    return end_container(launch["executable"], launch["container"], launch["env"])


def _identities(primary: Primary) -> dict[str, Any]:
    own, program = read_process(os.getpid()), read_process(primary.pid)
    return {
        "pid": os.getpid(),
        "start": own.start if own else "",
        "boot": boot(),
        "program_pid": primary.pid,
        "program_start": program.start if program else "",
    }


def _write_surely(folder: str, name: str, record: dict[str, Any]) -> None:
    """Keeps trying while the disk is full: the end of a day's training is worth the wait."""
    while True:
        try:
            write_durably(os.path.join(folder, name), record)
            return
        except OSError as failure:
            if failure.errno not in _DISK_FULL:
                raise
            time.sleep(RETRY_SECONDS)


def main(arguments: list[str]) -> int:
    wakeups = Wakeups()  # before the lock: from then on a signal no longer just ends us
    folder = os.path.dirname(os.path.abspath(arguments[1]))
    os.chdir("/")
    lock = take_lock(folder)
    if lock is not None:
        supervise(folder, wakeups)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
