# SPDX-License-Identifier: Apache-2.0
"""The folder of one attempt: all that is known of it, and all that survives a crash.

`process.py` decides from it, `supervisor.py` (which describes the files) runs what it says. Nothing
about an attempt is believed because a controller remembers it.

    no launch.json, no stop     never accepted
    launch.json                 accepted: waits, or its supervisor has not recorded itself yet
    supervisor.json             started, once and for ever
    exit.json                   over; nothing of it runs
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith_controller.ports import Key
from tunesmith_controller.workloads import stragglers, supervisor
from tunesmith_controller.workloads.container_end import end_container
from tunesmith_controller.workloads.process_identity import ProcessIdentity

AttemptId = tuple[str, int]  # trial uid, number of the attempt
TRIAL_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # as a folder's name
CHECKPOINT = "checkpoint"
_DELETING = ".deleting-"
_SUPERVISOR_LOG = "supervisor.log"
_LOG = logging.getLogger(__name__)


class Ending(StrEnum):
    """How an attempt ended."""

    EXITED = supervisor.EXITED
    STOPPED = supervisor.STOPPED
    STOPPED_BEFORE_START = supervisor.STOPPED_BEFORE_START
    DEADLINE_EXCEEDED = supervisor.DEADLINE_EXCEEDED
    START_FAILED = supervisor.START_FAILED
    INTERRUPTED = supervisor.INTERRUPTED  # the supervisor was told to end, as at a shutdown
    LOST = "Lost"  # the supervisor was killed: how the program ended is not known


@dataclass(frozen=True, slots=True)
class Launch:
    """What `launch.json` says: the supervisor reads the first seven and `restarts`, a new
    controller the rest. `container`: its name, empty for a process."""

    executable: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    grace_seconds: float
    leftover_seconds: float
    deadline_seconds: int | None
    trial: Key
    cpu_millis: int
    order: int
    restarts: int = 0
    container: str = ""

    @staticmethod
    def parse(record: dict[str, Any]) -> Launch:
        # Records of earlier releases lack the last ones.
        known = {f.name: record.get(f.name, f.default) for f in fields(Launch)}
        if MISSING in known.values():
            raise KeyError(next(name for name, value in known.items() if value is MISSING))
        return Launch(**{**known, "trial": Key(**record["trial"])})


@dataclass(frozen=True, slots=True)
class Started:
    """What `supervisor.json` says. `failures`: of runs so far, each followed by a restart or a
    wait for it; `last_code`: how the last of them exited, 128 + its number for a signal."""

    supervisor: ProcessIdentity
    program: ProcessIdentity
    at: datetime | None
    failures: int = 0
    last_code: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """What `exit.json` says. Of `code` and `signal` one is set when a program ended."""

    ending: Ending
    code: int | None = None
    signal: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    message: str = ""
    leftovers: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """`path` is ROOT/TRIAL-UID/ATTEMPT. Methods touch the disk at each call and raise OSError."""

    path: Path

    @property
    def output(self) -> Path:
        return self.path / supervisor.OUTPUT

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def work(self) -> Path:
        """The working directory of a program that was given no other."""
        return self.path / "work"

    @property
    def shared(self) -> Path:
        """What the program may see of this folder: its own metrics files, the word to stop."""
        return self.path / "shared"

    @property
    def stop_word(self) -> Path:
        """There once the program should stop."""
        return self.shared / "stop"

    @property
    def checkpoint(self) -> Path:
        """The trial's directory, which all of its attempts share."""
        return self.path.parent / CHECKPOINT

    def target(self, declared: str) -> Path:
        """Where the attempt's metrics file is that its template calls `declared`."""
        return self.shared / "metrics" / Path(declared).name

    @property
    def is_accepted(self) -> bool:
        return (self.path / supervisor.LAUNCH).exists()

    @property
    def is_stopped(self) -> bool:
        return (self.path / supervisor.STOP).exists()

    @property
    def is_started(self) -> bool:
        return (self.path / supervisor.SUPERVISOR).exists()

    @property
    def is_over(self) -> bool:
        return (self.path / supervisor.EXIT).exists()

    @property
    def is_unfinished(self) -> bool:
        """Accepted and not over."""
        return self.is_accepted and not self.is_over

    @property
    def may_start(self) -> bool:
        """Accepted, and nothing has started or forbidden it. The supervisor looks again."""
        return self.is_unfinished and not self.is_started and not self.is_stopped

    def open_supervisor_log(self) -> BinaryIO:
        """Where a supervisor's own errors go."""
        return open(self.path / _SUPERVISOR_LOG, "wb", opener=_private)

    def last_trouble(self) -> str:
        """The last line of it."""
        try:
            text = (self.path / _SUPERVISOR_LOG).read_text("utf-8", "replace")
        except FileNotFoundError:
            text = ""
        return (text.strip().splitlines() or ["it said nothing"])[-1]

    def launch(self) -> Launch:
        """Raises OSError, or ValueError when it is damaged."""
        try:
            return Launch.parse(json.loads((self.path / supervisor.LAUNCH).read_bytes()))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path / supervisor.LAUNCH} is damaged: {error!r}") from error

    def started(self) -> Started | None:
        record = self._read(supervisor.SUPERVISOR)
        if record is None:
            return None
        boot = str(record.get("boot", ""))
        return Started(
            ProcessIdentity(int(record.get("pid", 0)), str(record.get("start", "")), boot),
            ProcessIdentity(
                int(record.get("program_pid", 0)), str(record.get("program_start", "")), boot
            ),
            _instant(record.get("started_at")),
            int(record.get("failures") or 0),
            exit_code(record.get("exit_code"), record.get("signal")),
        )

    def exit(self) -> Exit | None:
        record = self._read(supervisor.EXIT)
        if record is None:
            return None
        if "reason" not in record or "ended_at" not in record:
            return Exit(Ending.LOST, message="its exit record cannot be read")
        return Exit(
            Ending(record["reason"]),
            record.get("exit_code"),
            record.get("signal"),
            _instant(record.get("started_at")),
            _instant(record.get("ended_at")),
            record.get("message") or "",
            record.get("leftovers") or 0,
            record.get("restarts") or 0,
        )

    def _read(self, name: str) -> dict[str, Any] | None:
        """None when it is not there; {} when it is, but damaged (a disk, or somebody's hand)."""
        try:
            record = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def create(self) -> None:
        """The folder and its parent, for their owner only, and durable."""
        for folder in (self.path.parent.parent, self.path.parent, self.path):
            try:
                folder.mkdir(mode=0o700, parents=folder == self.path.parent.parent)
            except FileExistsError:
                continue
            supervisor.sync_folder(str(folder.parent))

    def accept(self, launch: Launch) -> None:
        """From here on the attempt is to be started, by whatever controller lives."""
        record = asdict(launch)
        supervisor.write_durably(str(self.path / supervisor.LAUNCH), record)

    def request_stop(self) -> None:
        """Forbids the start, or asks the supervisor for the end."""
        self.create()
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        if self.shared.is_dir():
            # First: the program can look before the signal comes.
            os.close(os.open(self.stop_word, flags, 0o644))
        os.close(os.open(self.path / supervisor.STOP, flags, 0o600))
        supervisor.sync_folder(str(self.path))

    def is_orphaned(self) -> bool:
        """Not over, and no supervisor is going to end it: `settle` will."""
        started = self.started()
        if started is None:
            return self.is_stopped and not self.is_over
        return not started.supervisor.runs and not self.is_over

    def settle(self, now: datetime) -> Exit | None:
        """Writes the exit record that a supervisor owes and cannot write any more.

        None when there is nothing to settle yet: a supervisor holds the lock, or processes that
        it left behind were told to die only just now. Call it again then.
        """
        with self._lock() as held:
            if not held:
                return None
            started, ended = self.started(), self.exit()
            if ended is not None:
                return ended
            if started is None:
                return self._write_exit(Exit(Ending.STOPPED_BEFORE_START, ended_at=now))
            if not stragglers.kill(started.program, str(self.metrics), self.output):
                return None
            # Only now: a client that still lived could start its container after this.
            if problem := self._end_container():
                _LOG.warning("%s", problem)
                return None
            return self._write_exit(
                Exit(
                    Ending.LOST,
                    started_at=started.at,
                    ended_at=now,
                    message=_why_lost(started.supervisor),
                )
            )

    def _end_container(self) -> str:
        """Why it is not known to be gone; "" when it is, or the attempt has none."""
        launch = self.launch()
        if not launch.container:
            return ""
        return end_container(launch.executable, launch.container, launch.env)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """The lock says more than a pid: it also holds across pid namespaces (containers)."""
        descriptor = supervisor.take_lock(str(self.path))
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _write_exit(self, ended: Exit) -> Exit:
        record = {
            "reason": ended.ending.value,
            "message": ended.message,
            "started_at": _text(ended.started_at),
            "ended_at": _text(ended.ended_at),
        }
        supervisor.write_durably(str(self.path / supervisor.EXIT), record)
        return ended


# ---- the root: a folder per trial, in it a folder per attempt -----------------------------------


def find_unfinished(root: Path) -> list[tuple[AttemptId, AttemptFolder]]:
    """In the order in which they were accepted. Also ends what `delete` began."""
    found = []
    for trial in sorted(root.iterdir()) if root.is_dir() else ():
        if trial.name.startswith(_DELETING):
            _discard(trial)
            continue
        for number, folder in attempts(trial):
            if folder.is_unfinished:
                try:
                    found.append((folder.launch().order, (trial.name, number), folder))
                except ValueError as error:  # the others go on
                    _LOG.error("not adopted: %s", error)
    return [(attempt, folder) for _, attempt, folder in sorted(found, key=lambda row: row[:2])]


def attempts(trial: Path) -> list[tuple[int, AttemptFolder]]:
    """The attempts of a trial's folder, by number."""
    if not TRIAL_UID.fullmatch(trial.name) or not trial.is_dir():
        return []
    numbers = sorted(int(path.name) for path in trial.iterdir() if path.name.isdigit())
    return [(number, AttemptFolder(trial / str(number))) for number in numbers]


def delete(trial: Path) -> None:
    """Out of the way in one step first: a half-deleted attempt would look like a fresh one."""
    if trial.exists():
        doomed = trial.with_name(_DELETING + trial.name)
        if doomed.exists():
            _discard(doomed)
        trial.rename(doomed)
        _discard(doomed)


def _discard(folder: Path) -> None:
    """Deletes what may be deleted. A container can leave folders of another user: what is in them
    stays, is in nobody's way, and is logged."""
    try:
        shutil.rmtree(folder)
    except PermissionError as error:
        shutil.rmtree(folder, ignore_errors=True)
        _LOG.warning("delete %s as root, for it has files of another user (%s)", folder, error)


# ---- records ------------------------------------------------------------------------------------


def _why_lost(identity: ProcessIdentity) -> str:
    if not identity.is_of_this_boot:
        return "the machine was restarted while it ran"
    return "its supervisor process was killed, so how it ended is not known"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def exit_code(code: int | None, number: int | None) -> int | None:
    """As a shell tells it: 128 + its number for a program that a signal has ended."""
    return code if number is None else 128 + number


def _instant(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
