# SPDX-License-Identifier: Apache-2.0
"""`SqlObservationLog`: the observation log in a database; made by the servers and by embedded mode.

An append is one transaction and is acknowledged after its commit. Its key makes repeats harmless,
so a caller that got no answer sends the same report again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import URL, Connection, select

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceState
from tunesmith_observation import by_name, statements
from tunesmith_observation.by_name import NamedRow, NamedTrial, Window
from tunesmith_observation.database import Access, Database
from tunesmith_observation.limits import (
    MAX_INT,
    Limits,
    check_fence,
    check_report,
    check_stop,
)
from tunesmith_observation.migrations import upgrade
from tunesmith_observation.schema import ROWS, SOURCES

DELETE_ROWS: Final = 10_000
"""Deleted in one transaction, so that a big trial's end does not keep other writers waiting."""

ALL_ROWS: Final = MAX_INT


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one source in ascending seq."""

    source: str
    rows: Sequence[Row]


class SqlObservationLog:
    """The `ObservationLog` port, and what the gRPC services need beside it.

    Every method raises Unavailable when the database cannot be used (locked, full, broken, away),
    with nothing known about the effect, and works again when it can.
    """

    def __init__(self, database: Database, limits: Limits | None = None) -> None:
        self._database = database
        self._limits = limits or Limits()

    @classmethod
    def open(cls, database: str | URL | Access, limits: Limits | None = None) -> Self:
        """Upgrades the tables, then opens. Blocks. Raises Unavailable; Invalid for the URL."""
        upgrade(database)
        return cls(Database(database), limits)

    async def aclose(self) -> None:
        """Waits for what was begun, then closes."""
        await self._database.aclose()

    async def append(self, report: Report) -> Acknowledged:
        """Commits, then answers. Raises Invalid (RowLimitReached at the limit) and Unavailable;
        both store nothing of the report, Unavailable unless only the answer was lost."""
        check_report(report, self._limits)
        return await self._database.write(lambda connection: self._append(connection, report))

    def _append(self, connection: Connection, report: Report) -> Acknowledged:
        trial = statements.lock_trial(connection, report.key.trial_uid, report.key.attempt)
        stored = statements.source_state(connection, report.key)
        reason = trial.stop_reason
        if report.key.attempt < trial.fence:
            return Acknowledged(stored.offset if stored else 0, fenced=True, stop_reason=reason)
        if stored is None and report.trial_name:
            by_name.claim(connection, report.trial_name, report.key.trial_uid, report.key.attempt)
            trial = statements.lock_trial(connection, report.key.trial_uid)
        statements.store_rows(connection, report.key, report.rows, trial, self._limits)
        state = statements.store_source(connection, report, stored, self._limits)
        return Acknowledged(state.offset, stop_reason=reason)

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        """The sources of an attempt by name."""
        query = select(SOURCES).where(
            SOURCES.c.trial_uid == trial_uid, SOURCES.c.attempt == attempt
        )

        def read(connection: Connection) -> Mapping[str, SourceState]:
            return {
                row.source: SourceState(
                    row.stored_offset, bool(row.ended), statements.notes_from(row.notes)
                )
                for row in connection.execute(query.order_by(SOURCES.c.source))
            }

        return await self._database.read(read)

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        """Rows in (source, seq) order."""
        query = statements.select_rows(trial_uid, attempt, metric)
        return await self._database.read(
            lambda connection: list(statements.fetch_rows(connection, query))
        )

    async def pages(
        self,
        trial_uid: str,
        attempt: int,
        *,
        metric: str | None = None,
        after_seq: int | None = None,
        size: int = 1000,
    ) -> AsyncIterator[Page]:
        """The same rows in pages of one source each; `after_seq` holds for every source.

        A page is its own transaction: rows that are added meanwhile may be seen or not.
        """
        query = statements.select_rows(trial_uid, attempt, metric).limit(size)
        if after_seq is not None:
            query = query.where(ROWS.c.seq > after_seq)
        part = query
        while found := await self._database.read(
            lambda connection: list(statements.fetch_rows(connection, part))  # noqa: B023
        ):
            for source in dict.fromkeys(row.source for row in found):
                yield Page(source, [row for row in found if row.source == source])
            part = query.where(
                statements.after(self._database.dialect, found[-1].source, found[-1].seq)
            )

    async def latest_attempt(self, trial_uid: str) -> int | None:
        """The highest attempt that anything is stored of."""
        return await self._database.read(
            lambda connection: statements.latest_attempt(connection, trial_uid)
        )

    async def fence(self, trial_uid: str, attempt: int) -> None:
        """Refuses attempts below `attempt` from now on, also after `delete`."""
        check_fence(trial_uid, attempt)
        await self._database.write(
            lambda connection: statements.raise_fence(connection, trial_uid, attempt)
        )

    async def stop(self, trial_uid: str, attempt: int, reason: str) -> None:
        """Answers reports of the attempt with the reason from now on, the first of several."""
        check_stop(trial_uid, attempt, reason)
        await self._database.write(
            lambda connection: statements.put_stop(connection, trial_uid, attempt, reason)
        )

    async def delete(self, trial_uid: str) -> None:
        """Removes all rows, sources and stops of a trial, in parts; repeat it when it raises."""
        await self.remove(trial_uid)

    async def remove(self, trial_uid: str) -> int:
        """`delete` that tells how many rows there were."""
        removed, is_gone = 0, False
        while not is_gone:
            part, is_gone = await self._database.write(
                lambda connection: statements.delete_rows(connection, trial_uid, DELETE_ROWS)
            )
            removed += part
        return removed

    async def append_by_trial_name(
        self, trial_name: str, entries: Sequence[NamedRow], told: NamedTrial | None = None
    ) -> str:
        """Stores what Katib's DBManager is told, under the uid that it returns; see by_name.py for
        whose it is without `told`, and for the rule on repeats.

        Raises Invalid, AmbiguousTrialName among them, and Unavailable.
        """
        by_name.check_named(trial_name, entries, self._limits)
        if not entries:
            return ""
        return await self._database.write(
            lambda connection: by_name.append_named(
                connection, trial_name, entries, self._limits, told
            )
        )

    async def rows_by_trial_name(
        self,
        namespace: str,
        trial_name: str,
        window: Window | None = None,
        most: int = ALL_ROWS,
        told: NamedTrial | None = None,
    ) -> Sequence[Row]:
        """The first `most` rows of the newest attempt of a named trial, in (source, seq) order;
        namespace "" means any. Raises AmbiguousTrialName."""

        def read(connection: Connection) -> Sequence[Row]:
            uid = told.uid if told else by_name.known_uid(connection, namespace, trial_name)
            return by_name.rows_by_name(connection, uid, trial_name, window or Window(), most)

        return await self._database.read(read)

    async def delete_by_trial_name(self, trial_name: str, told: NamedTrial | None = None) -> None:
        """Deletes the trial of a name and unclaimed rows of it. Raises AmbiguousTrialName."""
        uid = told.uid if told is not None else await self._known_uid(trial_name)
        for trial_uid in (uid, by_name.unclaimed_uid(trial_name)):
            if trial_uid:
                await self.remove(trial_uid)

    async def _known_uid(self, trial_name: str) -> str | None:
        return await self._database.read(
            lambda connection: by_name.known_uid(connection, "", trial_name)
        )
