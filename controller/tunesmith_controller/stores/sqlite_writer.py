# SPDX-License-Identifier: Apache-2.0
"""The one thread of a `SqliteStore` that writes.

Calls that wait together share one transaction and so one flush of the disk, which is what limits
writes per second. A call refused by the engine has written nothing and leaves the others alone; an
error of the file fails all calls of its transaction, and none of them has happened.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tunesmith_controller.ports import Clock, PortError, Rng, Unavailable
from tunesmith_controller.stores.engine import COLLECT_AT_ONCE, Engine
from tunesmith_controller.stores.sqlite_file import connect, explain, transaction
from tunesmith_controller.stores.sqlite_rows import Keep, SqliteRows
from tunesmith_controller.stores.watching import History

T = TypeVar("T")

_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class _Job:
    call: Callable[[Engine], Any]
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how to write."""

    path: Path
    busy_timeout_s: float
    keep: Keep
    clock: Clock
    rng: Rng


class Writer:
    """Runs calls in order. What they changed is fed to `history` before they return."""

    def __init__(self, target: Target, history: History) -> None:
        self._target = target
        self._history = history
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._uncollected = True  # unknown: another process may have died while collecting
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, call: Callable[[Engine], T]) -> Future[T]:
        """Queues a call; the future may be cancelled until it runs."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self._target.path} has been closed by this process")
            self._jobs.put(_Job(call, future))
            self._ensure_started()
        return future

    def start(self) -> None:
        """Goes on with a collection that an earlier process left."""
        with self._lock:
            self._ensure_started()

    def close(self) -> None:
        """Finishes what is queued and closes the file."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
            thread = self._thread
        if thread is not None:
            thread.join()

    def _ensure_started(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(
                target=self._run, name=f"writes {self._target.path.name}", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            live = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if live:
                self._serve(live)
            if open_ and self._uncollected:
                # An error goes with the future: the next write comes back to the durable queue.
                self._serve([_Job(lambda engine: None, Future())])
        self._disconnect()

    def _take(self) -> tuple[list[_Job], bool]:
        """The next calls, and whether more may follow. Waits unless there is other work."""
        batch: list[_Job] = []
        with suppress(queue.Empty):
            while len(batch) < _TOGETHER:
                job = self._jobs.get(block=not batch and not self._uncollected)
                if job is None:
                    return batch, False
                batch.append(job)
        return batch, True

    def _serve(self, jobs: list[_Job]) -> None:
        try:
            outcomes = self._commit([job.call for job in jobs])
        except Exception as error:  # noqa: BLE001 - handed to the callers, who raise it
            for job in jobs:
                job.future.set_exception(error)
            return
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, PortError):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _commit(self, calls: list[Callable[[Engine], Any]]) -> list[Any]:
        """The results or refusals of all calls, once they are on disk, and what they orphaned is
        collected as far as one transaction should go. Raises Unavailable."""
        target = self._target
        self._uncollected = False
        try:
            connection = self._connect()
            with transaction(connection, write=True):
                rows = SqliteRows(connection, target.keep)
                engine = Engine(rows, target.clock, target.rng)
                outcomes = _outcomes(calls, engine)
                uncollected = rows.first_gone() is not None
        except sqlite3.Error as error:
            self._disconnect()
            raise explain(target.path, error) from error
        self._uncollected = uncollected
        self._history.feed(rows.entries)
        return outcomes

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._target.path, self._target.busy_timeout_s)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _outcomes(calls: list[Callable[[Engine], Any]], engine: Engine) -> list[Any]:
    """All results or refusals. The whole transaction collects no more than one call would."""
    outcomes: list[Any] = []
    budget = COLLECT_AT_ONCE
    for call in calls:
        try:
            outcomes.append(call(engine))
        except Unavailable:
            raise  # a damaged row, maybe found after the first write: undo the transaction
        except PortError as refused:
            outcomes.append(refused)
        budget -= engine.collect(budget)
    return outcomes
